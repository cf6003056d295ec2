/* The plain recurrent network in C, without a library: forward, gradients, clip, SGD and training.

   It answers the test vectors that it implements, and trains in exact mode:

       rnn-scratch vectors vectors.txt
       cc -O3 -o rnn rnn.c -lm && ./rnn vectors.txt answers.txt
       rnn-scratch check answers.txt

   Compiled with -DREAL=float, it computes in float32. Sizes: B (batch), T (time steps),
   V (vocabulary), H (hidden units). Matrices are row-major. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h> /* math functions for float and double */

#ifndef REAL
#define REAL double
#endif
typedef REAL real;

enum { W_XH, W_HH, B_H, W_HQ, B_Q, NUM };
static const char *NAMES[NUM] = {"W_xh", "W_hh", "b_h", "W_hq", "b_q"};
static int B, T, V, H, size[NUM];
static real *params[NUM], *grads[NUM];

static void fail(const char *problem, const char *detail) {
    fprintf(stderr, "rnn: %s%s\n", problem, detail);
    exit(1);
}

static real *zeros(int count) {
    real *values = calloc(count > 0 ? count : 1, sizeof *values);
    if (!values) fail("out of memory", "");
    return values;
}

/* Add the product of A (m, k) and W (k, n) to C (m, n). */
static void add_product(real *restrict C, const real *A, const real *W, int m, int k, int n) {
    for (int i = 0; i < m; i++)
        for (int p = 0; p < k; p++)
            for (int j = 0; j < n; j++) C[i * n + j] += A[i * k + p] * W[p * n + j];
}

static void transpose(real *A_t, const real *A, int m, int n) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) A_t[j * m + i] = A[i * n + j];
}

/* Tokens are (B, T), in rows of `stride` numbers. Row b of a one-hot product is a row of W_xh. */
static void cell(real *next, const real *h, const int *tokens, int stride) {
    for (int b = 0; b < B; b++)
        for (int j = 0; j < H; j++)
            next[b * H + j] = params[W_XH][tokens[b * stride] * H + j] + params[B_H][j];
    add_product(next, h, params[W_HH], B, H, H);
    for (int i = 0; i < B * H; i++) next[i] = tanh(next[i]);
}

static void output(real *logits, const real *h) {
    for (int i = 0; i < B * V; i++) logits[i] = params[B_Q][i % V];
    add_product(logits, h, params[W_HQ], B, H, V);
}

/* `states` has T + 1 states (B, H), the first of which is given; logits are (T * B, V). */
static void forward(real *states, real *logits, const int *tokens, int stride) {
    for (int t = 0; t < T; t++) {
        real *next = states + (t + 1) * B * H;
        cell(next, next - B * H, tokens + t, stride);
        output(logits + t * B * V, next);
    }
}

/* Return the mean loss of time-major logits; store its gradient in d_logits, unless it is NULL. */
static double loss(const real *logits, const int *targets, int stride, real *d_logits) {
    double total = 0;
    for (int row = 0; row < T * B; row++) {
        const real *y = logits + row * V;
        int target = targets[row % B * stride + row / B];
        real largest = y[0], sum = 0;
        for (int v = 1; v < V; v++) largest = fmax(largest, y[v]);
        for (int v = 0; v < V; v++) sum += exp(y[v] - largest);
        total += log(sum) - (y[target] - largest);
        for (int v = 0; d_logits && v < V; v++)
            d_logits[row * V + v] = (exp(y[v] - largest) / sum - (v == target)) / (T * B);
    }
    return total / (T * B);
}

/* Store gradients in `grads`, and all states in `states`, the first of which is given; return the
   mean loss. */
static double gradients(real *states, const int *tokens, const int *targets, int stride) {
    real *logits = zeros(T * B * V), *d_logits = zeros(T * B * V);
    real *d_h = zeros(B * H), *d_z = zeros(B * H), *h_t = zeros(H * B);
    real *W_hq_t = zeros(V * H), *W_hh_t = zeros(H * H);
    transpose(W_hq_t, params[W_HQ], H, V);
    transpose(W_hh_t, params[W_HH], H, H);
    forward(states, logits, tokens, stride);
    double mean_loss = loss(logits, targets, stride, d_logits);
    for (int i = 0; i < NUM; i++) memset(grads[i], 0, size[i] * sizeof(real));
    for (int t = T - 1; t >= 0; t--) {
        const real *h = states + (t + 1) * B * H, *d_y = d_logits + t * B * V;
        transpose(h_t, h, B, H);
        add_product(grads[W_HQ], h_t, d_y, H, B, V);
        for (int i = 0; i < B * V; i++) grads[B_Q][i % V] += d_y[i];
        add_product(d_h, d_y, W_hq_t, B, V, H); /* d_h has the gradient from the next step */
        for (int b = 0; b < B; b++)
            for (int j = 0; j < H; j++) {
                int i = b * H + j;
                d_z[i] = d_h[i] * (1 - h[i] * h[i]);
                grads[W_XH][tokens[b * stride + t] * H + j] += d_z[i];
                grads[B_H][j] += d_z[i];
            }
        transpose(h_t, h - B * H, B, H); /* the previous state */
        add_product(grads[W_HH], h_t, d_z, H, B, H);
        memset(d_h, 0, B * H * sizeof(real));
        add_product(d_h, d_z, W_hh_t, B, H, H);
    }
    free(logits), free(d_logits), free(d_h), free(d_z), free(h_t), free(W_hq_t), free(W_hh_t);
    return mean_loss;
}

static double clip(real theta) {
    double norm = 0;
    for (int i = 0; i < NUM; i++)
        for (int j = 0; j < size[i]; j++) norm += grads[i][j] * grads[i][j];
    norm = sqrt(norm);
    for (int i = 0; norm > theta && i < NUM; i++)
        for (int j = 0; j < size[i]; j++) grads[i][j] *= theta / norm;
    return norm;
}

/* Round to the nearest multiple of a grid, with ties to even; do nothing if the grid is 0. */
static real to_grid(real x, real grid) { return grid ? nearbyint(x / grid) * grid : x; }

static void sgd(real lr, real factor, real grid) {
    for (int i = 0; i < NUM; i++)
        for (int j = 0; j < size[i]; j++)
            params[i][j] = to_grid(params[i][j] - lr * to_grid(factor * grads[i][j], grid), grid);
}

/* Vectors: arrays in lines of text. */
typedef struct {
    char id[64], name[32];
    int axes, size[4], count;
    real *values;
} Array;
static Array *arrays;
static int num_arrays;
static FILE *answers;

static void read_vectors(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail("cannot read ", path);
    char kind[8];
    for (Array a; a = (Array){.count = 1}, fscanf(file, "%63s %7s", a.id, kind) == 2;) {
        if (strcmp(kind, "input")) { /* skip outputs, and comments, which start with # */
            if (fscanf(file, "%*[^\n]") == EOF) break;
            continue;
        }
        if (fscanf(file, "%31s %d", a.name, &a.axes) != 2 || a.axes > 4) fail("bad line: ", a.id);
        for (int i = 0; i < a.axes; i++) {
            if (fscanf(file, "%d", &a.size[i]) != 1) fail("bad sizes: ", a.id);
            a.count *= a.size[i];
        }
        a.values = zeros(a.count);
        for (int i = 0; i < a.count; i++) {
            double value;
            if (fscanf(file, "%lf", &value) != 1) fail("too few values: ", a.id);
            a.values[i] = value;
        }
        arrays = realloc(arrays, (num_arrays + 1) * sizeof a);
        if (!arrays) fail("out of memory", "");
        arrays[num_arrays++] = a;
    }
    fclose(file);
}

/* Return an input of a test or, if it has none of this name, of its group; NULL if there is none. */
static Array *find(const char *id, const char *name) {
    for (int i = 0; i < num_arrays; i++)
        if (!strcmp(arrays[i].id, id) && !strcmp(arrays[i].name, name)) return &arrays[i];
    char group[64] = "";
    if (!strchr(id, '/')) return NULL;
    memcpy(group, id, strchr(id, '/') - id);
    return find(group, name);
}

static real *input(const char *id, const char *name) {
    Array *array = find(id, name);
    if (!array) fail("an input is missing: ", name);
    return array->values;
}

/* Return a copy of an array of tokens. */
static int *integers(const char *id, const char *name) {
    real *values = input(id, name);
    int count = find(id, name)->count, *copy = malloc(count * sizeof *copy);
    if (!copy) fail("out of memory", "");
    for (int i = 0; i < count; i++) copy[i] = (int)values[i];
    return copy;
}

/* Write an output with 0, 1 or 2 axes; a size of 0 stands for no axis. */
static void write(const char *id, const char *name, int rows, int columns, const real *values) {
    fprintf(answers, "%s output %s %d", id, name, (rows > 0) + (columns > 0));
    if (rows) fprintf(answers, " %d", rows);
    if (columns) fprintf(answers, " %d", columns);
    for (int i = 0; i < (rows ? rows : 1) * (columns ? columns : 1); i++)
        fprintf(answers, " %.17g", values[i]);
    fprintf(answers, "\n");
}

static void write_all(const char *id, const char *prefix, real *all[NUM]) {
    const int rows[NUM] = {V, H, 0, H, 0}, columns[NUM] = {H, H, H, V, V};
    for (int i = 0; i < NUM; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s%s", prefix, NAMES[i]);
        write(id, name, rows[i], columns[i], all[i]);
    }
}

/* Copy a test's parameters, which it may change, and its gradients, if it has any. */
static void load(const char *id) {
    Array *W_xh = find(id, "W_xh");
    if (!W_xh) fail("no parameters: ", id);
    V = W_xh->size[0], H = W_xh->size[1];
    for (int i = 0; i < NUM; i++) {
        char name[32];
        snprintf(name, sizeof name, "grad.%s", NAMES[i]);
        size[i] = find(id, NAMES[i])->count;
        free(params[i]), free(grads[i]);
        params[i] = zeros(size[i]), grads[i] = zeros(size[i]);
        memcpy(params[i], input(id, NAMES[i]), size[i] * sizeof(real));
        if (find(id, name)) memcpy(grads[i], input(id, name), size[i] * sizeof(real));
    }
}

/* Train in exact mode, which rounds parameters and gradients to multiples of 1/65536 and the state
   that is carried to multiples of 1/1024. */
static void train(void) {
    const char *id = "training";
    load(id);
    B = (int)*input(id, "batch_size"), T = (int)*input(id, "num_steps");
    for (int i = 0; i < NUM; i++)
        for (int j = 0; j < size[i]; j++) params[i][j] *= *input(id, "scale");
    int *tokens = integers(id, "tokens"), count = find(id, "tokens")->count;
    real *states = zeros((T + 1) * B * H);
    for (int epoch = 0; epoch < find(id, "offsets")->count; epoch++) {
        int offset = (int)input(id, "offsets")[epoch], width = (count - offset - 1) / B;
        memset(states, 0, B * H * sizeof(real));
        for (int start = offset; start + T <= offset + width; start += T) {
            gradients(states, tokens + start, tokens + start + 1, width);
            clip(*input(id, "theta"));
            sgd(*input(id, "lr"), 1, 0x1p-16);
            for (int i = 0; i < B * H; i++) states[i] = to_grid(states[T * B * H + i], 0x1p-10);
        }
        char place[32];
        snprintf(place, sizeof place, "training/%d", epoch + 1);
        write_all(place, "", params);
    }
    free(tokens), free(states);
}

/* Answer tests of one function; `id` may end in a hyphen and the test's variant. */
static void answer(const char *id) {
    const char *function = strchr(id, '/') + 1;
    load(id);
    int *tokens = integers(id, "tokens"), *targets = integers(id, "targets");
    B = find(id, "tokens")->size[0], T = find(id, "tokens")->size[1];
    real *states = zeros((T + 1) * B * H), *logits = zeros(T * B * V), *last = states + T * B * H;
    memcpy(states, input(id, "h"), B * H * sizeof(real));
    int is_step = !strcmp(function, "step");
    if (is_step || !strcmp(function, "cell")) {
        for (int i = 0; i < B * V; i++) /* x is one-hot */
            if (input(id, "x")[i]) tokens[i / V] = i % V;
        cell(last, states, tokens, 1);
        output(logits, last);
        if (is_step) write(id, "logits", B, V, logits);
        write(id, "h", B, H, last);
    } else if (!strcmp(function, "forward")) {
        forward(states, logits, tokens, T);
        write(id, "logits", T * B, V, logits);
        write(id, "h", B, H, last);
    } else if (!strncmp(function, "loss", 4)) {
        real mean_loss = loss(input(id, "logits"), targets, T, NULL);
        write(id, "loss", 0, 0, &mean_loss);
    } else if (!strncmp(function, "gradients", 9)) {
        real mean_loss = gradients(states, tokens, targets, T);
        write(id, "loss", 0, 0, &mean_loss);
        write_all(id, "grad.", grads);
        write(id, "h", B, H, last);
    } else if (!strncmp(function, "clip", 4)) {
        real norm = clip(*input(id, "theta"));
        write(id, "norm", 0, 0, &norm);
        write_all(id, "grad.", grads);
    } else if (!strcmp(function, "sgd")) {
        for (int t = 0; t < find(id, "lr")->count; t++)
            sgd(input(id, "lr")[t], input(id, "factors")[t], 0);
        write_all(id, "", params);
    }
    free(tokens), free(targets), free(states), free(logits);
}

int main(int count, char *paths[]) {
    const char *ids[] = {
        "common/loss", "common/loss-large", "common/loss-far", "common/gradients-large",
        "common/clip-above", "common/clip-below", "common/clip-zero", "common/sgd",
        "rnn/cell", "rnn/step", "rnn/forward", "rnn/gradients",
        "rnn-one/cell", "rnn-one/step", "rnn-one/forward", "rnn-one/gradients",
    };
    if (count != 3) fail("usage: ./rnn vectors.txt answers.txt", "");
    read_vectors(paths[1]);
    answers = fopen(paths[2], "w");
    if (!answers) fail("cannot write ", paths[2]);
    if (sizeof(real) == sizeof(float)) fprintf(answers, "dtype float32\n");
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) answer(ids[i]);
    if (find("training", "tokens")) train();
    if (fclose(answers)) fail("cannot write ", paths[2]);
    return 0;
}
