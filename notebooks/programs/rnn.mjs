// The plain recurrent network in JavaScript, without a library: forward, gradients, clip, SGD and training.
//
// It answers the test vectors that it implements, and trains in exact mode:
//
//     rnn-scratch vectors vectors.json
//     node rnn.mjs vectors.json answers.json
//     rnn-scratch check answers.json
//
// Sizes: B (batch), T (time steps), V (vocabulary), H (hidden units). Matrices are lists of rows.
import { readFileSync, writeFileSync } from "node:fs";

const NAMES = ["W_xh", "W_hh", "b_h", "W_hq", "b_q"];
const transpose = (A) => A[0].map((_, j) => A.map((row) => row[j]));
const add = (u, v) => u.map((x, i) => x + v[i]);
const map = (f, A, B = A) => A.map((x, i) => (Array.isArray(x) ? map(f, x, B[i]) : f(x, B[i])));
const zeros_like = (A) => map(() => 0, A);
const by_name = (f) => Object.fromEntries(NAMES.map((name) => [name, f(name)]));
const all = (prefix, arrays) => Object.fromEntries(NAMES.map((name) => [prefix + name, arrays[name]]));

function product(A, B) {
  return A.map((row) => {
    const sums = new Array(B[0].length).fill(0);
    row.forEach((x, p) => {
      const others = B[p];
      for (let j = 0; j < sums.length; j++) sums[j] += x * others[j];
    });
    return sums;
  });
}

// A one-hot vector times W_xh is a row of W_xh.
function cell(tokens, h, { W_xh, W_hh, b_h }) {
  return product(h, W_hh).map((row, b) => add(add(row, W_xh[tokens[b]]), b_h).map(Math.tanh));
}

function output(h, { W_hq, b_q }) {
  return product(h, W_hq).map((row) => add(row, b_q));
}

// Return time-major logits (T * B, V) and T + 1 states (B, H).
function forward(tokens, h, params) {
  const logits = [], states = [h];
  for (const column of transpose(tokens)) {
    states.push(cell(column, states.at(-1), params));
    logits.push(...output(states.at(-1), params));
  }
  return [logits, states];
}

// Return the mean loss and its gradient with respect to the logits.
function loss(logits, targets) {
  const labels = transpose(targets).flat();
  let total = 0;
  const d_logits = logits.map((row, n) => {
    const largest = Math.max(...row), weights = row.map((y) => Math.exp(y - largest));
    const sum = weights.reduce((a, b) => a + b);
    total += Math.log(sum) - (row[labels[n]] - largest);
    return weights.map((w, v) => (w / sum - (v === labels[n] ? 1 : 0)) / labels.length);
  });
  return [total / labels.length, d_logits];
}

// Return the mean loss, the gradients and the last state.
function gradients(tokens, targets, h, params) {
  const [logits, states] = forward(tokens, h, params), [mean_loss, d_logits] = loss(logits, targets);
  const grads = by_name((name) => zeros_like(params[name])), B = h.length;
  const W_hq_t = transpose(params.W_hq), W_hh_t = transpose(params.W_hh), columns = transpose(tokens);
  let d_next = zeros_like(h); // the next step's gradient with respect to its first state
  for (let t = columns.length - 1; t >= 0; t--) {
    const d_y = d_logits.slice(t * B, (t + 1) * B), next = states[t + 1];
    const d_h = product(d_y, W_hq_t).map((row, b) => add(row, d_next[b]));
    const d_z = d_h.map((row, b) => row.map((d, j) => d * (1 - next[b][j] ** 2)));
    grads.W_hq = product(transpose(next), d_y).map((row, i) => add(row, grads.W_hq[i]));
    grads.b_q = d_y.reduce(add, grads.b_q);
    grads.W_hh = product(transpose(states[t]), d_z).map((row, i) => add(row, grads.W_hh[i]));
    grads.b_h = d_z.reduce(add, grads.b_h);
    columns[t].forEach((token, b) => (grads.W_xh[token] = add(grads.W_xh[token], d_z[b])));
    d_next = product(d_z, W_hh_t);
  }
  return [mean_loss, grads, states.at(-1)];
}

function clip(grads, theta) {
  const squares = NAMES.flatMap((name) => grads[name].flat()).map((x) => x * x);
  const norm = Math.sqrt(squares.reduce((a, b) => a + b)), scale = norm > theta ? theta / norm : 1;
  return [by_name((name) => map((x) => x * scale, grads[name])), norm];
}

// Round to the nearest multiple of a grid, with ties to even: numbers near 1.5 * 2^52 are integers.
const to_grid = (x, grid) => (x / grid + 1.5 * 2 ** 52 - 1.5 * 2 ** 52) * grid;
const sgd = (params, grads, lr) => by_name((name) => map((p, g) => p - lr * g, params[name], grads[name]));

// Train in exact mode, which rounds parameters, gradients and the state that is carried.
function train({ scale, tokens, offsets, lr, theta, batch_size: B, num_steps: T, ...start }, hiddens, answers) {
  const round = (arrays) => by_name((name) => map((x) => to_grid(x, 2 ** -16), arrays[name]));
  let params = by_name((name) => map((x) => x * scale, start[name]));
  offsets.forEach((offset, epoch) => {
    const n = Math.floor((tokens.length - offset - 1) / B);
    const cut = (from) => Array.from({ length: B }, (_, b) => tokens.slice(from + b * n, from + b * n + T));
    let grads, h = Array.from({ length: B }, () => new Array(hiddens).fill(0));
    for (let first = 0; first + T <= n; first += T) {
      [, grads, h] = gradients(cut(offset + first), cut(offset + first + 1), h, params);
      params = round(sgd(params, round(clip(grads, theta)[0]), lr));
      h = map((x) => to_grid(x, 2 ** -10), h);
    }
    answers[`training/${epoch + 1}`] = params;
  });
}

const FUNCTIONS = {
  cell: (i) => ({ h: cell(i.x.map((row) => row.indexOf(1)), i.h, i) }),
  step(i) {
    const h = cell(i.x.map((row) => row.indexOf(1)), i.h, i);
    return { logits: output(h, i), h };
  },
  forward(i) {
    const [logits, states] = forward(i.tokens, i.h, i);
    return { logits, h: states.at(-1) };
  },
  loss: (i) => ({ loss: loss(i.logits, i.targets)[0] }),
  gradients(i) {
    const [mean_loss, grads, h] = gradients(i.tokens, i.targets, i.h, i);
    return { loss: mean_loss, ...all("grad.", grads), h };
  },
  clip(i) {
    const [grads, norm] = clip(by_name((name) => i["grad." + name]), i.theta);
    return { norm, ...all("grad.", grads) };
  },
  sgd(i) {
    const scaled = (t) => by_name((name) => map((x) => x * i.factors[t], i["grad." + name]));
    return i.lr.reduce((params, lr, t) => sgd(params, scaled(t), lr), by_name((name) => i[name]));
  },
};

const { groups } = JSON.parse(readFileSync(process.argv[2], "utf8")), answers = {};
for (const group of groups) {
  if (group.name === "training") train(group.inputs, group.sizes.H, answers);
  if (!["common", "rnn", "rnn-one"].includes(group.name)) continue;
  for (const test of group.tests.filter((test) => test.function in FUNCTIONS))
    answers[test.id] = FUNCTIONS[test.function]({ ...group.inputs, ...test.inputs });
}
writeFileSync(process.argv[3], JSON.stringify({ answers }));
