// Training as in `rnn-scratch train`: text, vocabulary, initial parameters, order of minibatches,
// learning rates, and digests in exact mode. Settings have the same names as in the core.
"use strict";

// Exact mode: grids without and with slots, and for carried states; smallest nonzero slot value.
const [GRID, FINE_GRID, STATE_GRID, MIN_VALUE] = [2 ** -16, 2 ** -20, 2 ** -10, 2 ** -100];
const GATES = { rnn: "h", gru: "zrh", "gru-after": "zrh", lstm: "ifoc" };
const SLOTS = { sgd: "", momentum: "m", adam: "mv" };
const LEARNING_RATES = { sgd: 1, momentum: 0.1, adam: 0.002 };
// Settings that visitors cannot choose, with the defaults of the command.
const FIXED = {
  batch_size: 32, num_steps: 35, num_layers: 1, embedding: 0, dropout: 0, sigma: 0.01, max_tokens: 10000,
};
// Command-line options for the settings that visitors choose; defaults, except learning rates.
const OPTIONS = {
  cell: "--cell", num_hiddens: "--num-hiddens", num_epochs: "--epochs", optimizer: "--optimizer",
  lr: "--lr", theta: "--theta", sampling: "--sampling", normalize: "--normalize",
  seed: "--seed",
};
const DEFAULTS = {
  cell: "rnn", optimizer: "sgd", theta: 1, sampling: "sequential", normalize: "chapter",
  seed: 0,
};
const [MAX_CHARACTERS, MAX_PARAMETERS] = [10 ** 6, 2 ** 19];

function normalize(text, mode) {
  text = text.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
  if (mode === "none") return text;
  const lines = text.split("\n").map((line) => line.replace(/[^A-Za-z]+/g, " ").trim());
  return lines.join("").toLowerCase();
}

// Return `<unk>`, then the characters by decreasing frequency, with ties ordered by code point.
function vocabulary(text) {
  const counts = new Map();
  for (const c of text) counts.set(c, (counts.get(c) ?? 0) + 1);
  const order = ([a, m], [b, n]) => n - m || a.codePointAt(0) - b.codePointAt(0);
  return ["<unk>", ...[...counts].sort(order).map(([c]) => c)];
}

function encode_text(text, vocab) {
  const tokens = new Map(vocab.map((c, token) => [c, token]));
  return [...text].map((c) => tokens.get(c));
}

// Return the shapes of the parameters, keyed by name, in the order in which they are drawn.
function shapes({ cell, num_hiddens: H, num_layers, embedding: N, vocab_size: V }) {
  const result = N ? { W_e: [V, N] } : {};
  for (let layer = 0; layer < num_layers; layer++) {
    for (const gate of GATES[cell]) {
      const inputs = layer ? H : N || V;
      const gate_shapes = {
        [`W_x${gate}`]: [inputs, H], [`W_h${gate}`]: [H, H], [`b_${gate}`]: [H],
      };
      Object.assign(result, add_layer_suffix(gate_shapes, layer));
    }
  }
  return { ...result, W_hq: [H, V], b_q: [V] };
}

// Return initial parameters: normally distributed weights with standard deviation sigma, and zeros
// for other parameters. Rounding to 32 bits hides the last bit of logarithms, which differs between
// machines.
function initial(options, sigma, seed) {
  const draw = normals(generator(seed, "initial")), weight = () => Math.fround(sigma * draw());
  return by_name(shapes(options), (shape, name) =>
    name.startsWith("W") ? map(weight, zeros(...shape)) : zeros(...shape));
}

// Return the minibatches of an epoch: X (B, T), Y (B, T) and dropout masks.
function epoch_batches(tokens, settings, epoch) {
  const { batch_size: B, num_steps: T, seed, sampling } = settings;
  const offset = integer(generator(seed, "offset", epoch), T - 1);
  const available = tokens.length - offset - 1;
  const length = Math.floor(available / B); // length of a row in sequential partitioning
  const shuffle = generator(seed, "shuffle", epoch);
  const order = sampling === "random" ? permutation(shuffle, Math.floor(available / T)) : null;
  return Array.from({ length: Math.floor(available / (B * T)) }, (_, n) => {
    // Each row is a shuffled subsequence, or starts where the previous minibatch's row ends.
    const start = (b) => offset + (order ? T * order[n * B + b] : b * length + n * T);
    const starts = Array.from({ length: B }, (_, b) => start(b));
    const slice = (shift) => starts.map((b) => tokens.slice(b + shift, b + shift + T));
    return { X: slice(0), Y: slice(1), masks: masks(settings, epoch, n) };
  });
}

// Return a minibatch's dropout masks, T lists of L arrays (B, H) of 0 and 1 / (1 - dropout).
function masks(settings, epoch, n) {
  const { batch_size: B, num_steps: T, num_layers: L, num_hiddens: H, dropout, seed } = settings;
  if (!dropout) return null;
  const threshold = Math.round(dropout * 2 ** 16);
  const draws = sixteens(generator(seed, "dropout", epoch, n), B * T * L * H); // shape (B, T, L, H)
  const factors = draws.map((x) => (x >= threshold ? 2 ** 16 / (2 ** 16 - threshold) : 0));
  return Array.from({ length: T }, (_, t) => Array.from({ length: L }, (_, layer) => {
    const mask = zeros(B, H);
    for (let b = 0; b < B; b++) {
      const start = ((b * T + t) * L + layer) * H;
      row(mask, b).set(factors.slice(start, start + H));
    }
    return mask;
  }));
}

// Round values to the nearest multiples of `grid`, and ties to even multiples.
function round_to_grid(values, grid) {
  return map((value) => {
    const multiple = Math.round(value / grid); // rounds ties up
    const is_odd_tie = multiple - value / grid === 0.5 && multiple % 2;
    return (is_odd_tie ? multiple - 1 : multiple) * grid;
  }, values);
}

// Round values to the nearest float32 numbers; replace tiny values with zero.
function round_to_float32(values) {
  return map((value) => (Math.abs(value) < MIN_VALUE ? 0 : Math.fround(value)), values);
}

// Return an optimizer that also rounds gradients, parameters and slots.
function make_exact(optimizer) {
  return (model, grads, update) => {
    const slots = Object.values(model.slots), grid = slots.length ? FINE_GRID : GRID;
    optimizer(model, by_name(grads, (grad) => round_to_grid(grad, grid)), update);
    Object.assign(model.params, by_name(model.params, (param) => round_to_grid(param, grid)));
    for (const slot of slots) Object.assign(slot, by_name(slot, round_to_float32));
  };
}

for (const [name, optimizer] of Object.entries({ ...OPTIMIZERS })) {
  OPTIMIZERS[`exact ${name}`] = make_exact(optimizer);
}

// Return the rule for update `number`, counted from 1. In exact mode, its constants are float32.
function update_rule({ lr, theta, optimizer, exact }, number = 1) {
  const constants = { lr, weight_decay: 0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
  if (exact) for (const name in constants) constants[name] = Math.fround(constants[name]);
  const { beta1, beta2 } = constants;
  const corrections = { c_m: 1 - beta1 ** number, c_v: 1 - beta2 ** number };
  return { ...constants, ...corrections, theta, optimizer: exact ? `exact ${optimizer}` : optimizer };
}

// Create a training run; throw an Error if it cannot begin. `text` is the story or another text.
function begin(settings, text) {
  const { normalize: mode, batch_size, num_steps } = settings;
  const format = (number) => number.toLocaleString("en");
  if (text.length > MAX_CHARACTERS) {
    throw Error(`The text has ${format(text.length)} characters, and this page takes at most `
      + `${format(MAX_CHARACTERS)}. Use a part of it.`);
  }
  if (!text.trim()) throw Error("There is no text. Paste one, or choose the story.");
  const normalized = normalize(text, mode);
  if (!normalized) {
    throw Error("The text has no letters from a to z. Keep all its characters instead.");
  }
  const vocab = vocabulary(normalized);
  const tokens = encode_text(normalized, vocab).slice(0, settings.max_tokens);
  const min_length = (batch_size + 1) * num_steps;
  if (tokens.length < min_length) {
    throw Error(`The text has ${format(tokens.length)} characters to train on. Minibatches of `
      + `${batch_size} subsequences of ${num_steps} characters need ${format(min_length)}.`);
  }
  const { cell, num_hiddens, num_layers, embedding } = settings;
  const num_states = num_layers * (cell === "lstm" ? 2 : 1);
  const options = { cell, num_hiddens, num_layers, num_states, embedding,
    vocab_size: vocab.length };
  const count = Object.values(shapes(options)).reduce((sum, [m, n = 1]) => sum + m * n, 0);
  if (count > MAX_PARAMETERS) {
    throw Error(`With ${format(vocab.length)} different characters, the network has `
      + `${format(count)} parameters; this page allows at most ${format(MAX_PARAMETERS)}. `
      + "Use fewer units, or a text with fewer characters.");
  }
  const model = build(initial(options, settings.sigma, settings.seed), options);
  for (const slot of SLOTS[settings.optimizer]) {
    model.slots[slot] = by_name(model.params, (param) => zeros(...param.shape));
  }
  const training = { settings: { ...settings }, vocab, tokens, model, num_updates: 0 };
  return begin_epoch({ ...training, epoch: 0 });
}

function begin_epoch(training) {
  const epoch = training.epoch + 1;
  const batches = epoch_batches(training.tokens, training.settings, epoch);
  return Object.assign(training, { epoch, batches, losses: [], last: null });
}

// Train on the next minibatch; return whether the epoch has ended. Throw an Error on divergence.
function advance(training) {
  const { model, batches, losses, settings } = training;
  const update = update_rule(settings, (training.num_updates += 1));
  const carry = settings.sampling === "sequential";
  const batch = batches[losses.length];
  const [[mean_loss], last] = train_epoch(model, [batch], [update], carry, training.last);
  losses.push(mean_loss);
  training.last = settings.exact ? last.map((s) => round_to_grid(s, STATE_GRID)) : last;
  if (!Number.isFinite(mean_loss)) {
    throw Error(`The loss is not finite in epoch ${training.epoch}: training has diverged. Begin `
      + "again with a smaller learning rate, or a smaller θ.");
  }
  return losses.length === batches.length;
}

// Return the tokens of the visitor's prefix; throw an Error if it is empty or has characters that
// the vocabulary lacks.
function encode_prefix(text, vocab) {
  const missing = [...new Set(text)].filter((c) => vocab.indexOf(c) < 1);
  if (missing.length) {
    const names = missing.slice(0, 5).map((c) => `“${c}”`).join(", ");
    throw Error(`The training text does not contain ${names}.`);
  }
  if (!text) throw Error("The network needs at least one character to start from.");
  return encode_text(text, vocab);
}

// Return the command that trains the same network to the end of this epoch.
function command({ corpus, ...settings }, epoch) {
  const defaults = { lr: LEARNING_RATES[settings.optimizer], ...DEFAULTS };
  const options = [["--backend", "numpy"], corpus ? ["--corpus", corpus] : ["--text", "text.txt"]];
  for (const [name, option] of Object.entries(OPTIONS)) {
    const value = name === "num_epochs" ? epoch : settings[name];
    if (value !== defaults[name]) options.push([option, value ?? "none"]);
  }
  return ["rnn-scratch train --exact", ...options.flat()].join(" ");
}

// Return all arrays that training changes; replace subnormal numbers in slots with zero.
function trained_arrays(model) {
  const arrays = by_name(model.params, (param) => map((x) => x + 0, param)); // x + 0 removes negative zeros
  for (const [slot, tensors] of Object.entries(model.slots)) {
    for (const name in model.params) {
      arrays[`${slot}.${name}`] = map((x) => (Math.abs(x) < 2 ** -1022 ? 0 : x), tensors[name]);
    }
  }
  return arrays;
}

// Return a digest of 16 hexadecimal digits over every bit of every array.
function digest(arrays) {
  const parts = Object.keys(arrays).sort().flatMap((name) => {
    const { shape, values } = arrays[name];
    const axes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
    const view = new DataView(new ArrayBuffer(8 * values.length)); // little-endian
    values.forEach((value, n) => view.setFloat64(8 * n, value, true));
    return [new TextEncoder().encode(`${name} <f8 (${axes}) `), new Uint8Array(view.buffer)];
  });
  return sha256(parts).slice(0, 16);
}

// Compute SHA-256 without `crypto.subtle`, which some pages lack; return hexadecimal digits.
function sha256(parts) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const bytes = new Uint8Array(64 * Math.ceil((length + 9) / 64));
  const view = new DataView(bytes.buffer);
  parts.reduce((start, part) => (bytes.set(part, start), start + part.length), 0);
  bytes[length] = 0x80;
  view.setBigUint64(bytes.length - 8, BigInt(8 * length));
  // Return the first 32 bits of the fractional part of x. SHA-256 uses roots of primes.
  const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32);
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  const K = primes.map((prime) => fraction(Math.cbrt(prime)) | 0);
  const H = primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)) | 0);
  const rotate = (x, n) => (x >>> n) | (x << (32 - n));
  const w = new Int32Array(64);
  for (let start = 0; start < bytes.length; start += 64) {
    for (let n = 0; n < 64; n++) {
      if (n < 16) {
        w[n] = view.getInt32(start + 4 * n);
        continue;
      }
      const [p, q] = [w[n - 15], w[n - 2]];
      const sum = rotate(p, 7) ^ rotate(p, 18) ^ (p >>> 3);
      w[n] = w[n - 16] + sum + w[n - 7] + (rotate(q, 17) ^ rotate(q, 19) ^ (q >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = H;
    for (let n = 0; n < 64; n++) {
      const first = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const one = (h + first + ((e & f) ^ (~e & g)) + K[n] + w[n]) | 0;
      const second = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const two = (second + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((x, n) => (H[n] = (H[n] + x) | 0));
  }
  return H.map((x) => (x >>> 0).toString(16).padStart(8, "0")).join("");
}
