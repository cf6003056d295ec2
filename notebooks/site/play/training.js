// Training as in `rnn-scratch train`: text, vocabulary, initial parameters, order of minibatches,
// learning rates, and digests in exact mode. Settings have the same names as in the core.
"use strict";

// Exact mode: grids for parameters, gradients that enter slots, and states; smallest slot value.
const [GRID, FINE_GRID, STATE_GRID, SMALLEST] = [2 ** -16, 2 ** -20, 2 ** -10, 2 ** -100];
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
const [MOST_CHARACTERS, MOST_PARAMETERS] = [10 ** 6, 2 ** 19];

function normalize(text, how) {
  text = text.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
  if (how === "none") return text;
  const lines = text.split("\n").map((line) => line.replace(/[^A-Za-z]+/g, " ").trim());
  return lines.join("").toLowerCase();
}

// Return `<unk>`, then the characters by decreasing frequency, with ties ordered by code point.
function vocabulary(text) {
  const counts = new Map();
  for (const each of text) counts.set(each, (counts.get(each) ?? 0) + 1);
  const order = ([a, m], [b, n]) => n - m || a.codePointAt(0) - b.codePointAt(0);
  return ["<unk>", ...[...counts].sort(order).map(([each]) => each)];
}

function tokens_of(text, vocab) {
  const index = new Map(vocab.map((each, token) => [each, token]));
  return [...text].map((each) => index.get(each));
}

// Return the shapes of the parameters, keyed by name, in the order in which they are drawn.
function shapes({ cell, num_hiddens: H, num_layers, embedding: N, vocab_size: V }) {
  const found = N ? { W_e: [V, N] } : {};
  for (let layer = 0; layer < num_layers; layer++) {
    for (const gate of GATES[cell]) {
      const inputs = layer ? H : N || V;
      const own = { [`W_x${gate}`]: [inputs, H], [`W_h${gate}`]: [H, H], [`b_${gate}`]: [H] };
      Object.assign(found, add_layer_suffix(own, layer));
    }
  }
  return { ...found, W_hq: [H, V], b_q: [V] };
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
function of_epoch(tokens, settings, epoch) {
  const { batch_size: B, num_steps: T, seed, sampling } = settings;
  const offset = whole(generator(seed, "offset", epoch), T - 1);
  const available = tokens.length - offset - 1;
  const length = Math.floor(available / B); // length of a row in sequential partitioning
  const shuffle = generator(seed, "shuffle", epoch);
  const order = sampling === "random" ? permutation(shuffle, Math.floor(available / T)) : null;
  return Array.from({ length: Math.floor(available / (B * T)) }, (_, n) => {
    // Each row is a shuffled subsequence, or starts where the previous minibatch's row ends.
    const start = (b) => offset + (order ? T * order[n * B + b] : b * length + n * T);
    const starts = Array.from({ length: B }, (_, b) => start(b));
    const cut = (shift) => starts.map((each) => tokens.slice(each + shift, each + shift + T));
    return { X: cut(0), Y: cut(1), masks: masks(settings, epoch, n) };
  });
}

// Return a minibatch's dropout masks, T lists of L arrays (B, H) of 0 and 1 / (1 - dropout).
function masks(settings, epoch, n) {
  const { batch_size: B, num_steps: T, num_layers: L, num_hiddens: H, dropout, seed } = settings;
  if (!dropout) return null;
  const dropped = Math.round(dropout * 2 ** 16);
  const drawn = sixteens(generator(seed, "dropout", epoch, n), B * T * L * H); // shape (B, T, L, H)
  const kept = drawn.map((each) => (each >= dropped ? 2 ** 16 / (2 ** 16 - dropped) : 0));
  return Array.from({ length: T }, (_, t) => Array.from({ length: L }, (_, layer) => {
    const mask = zeros(B, H);
    for (let b = 0; b < B; b++) {
      const start = ((b * T + t) * L + layer) * H;
      row(mask, b).set(kept.slice(start, start + H));
    }
    return mask;
  }));
}

// Round values to the nearest multiples of `grid`, and ties to even multiples.
function round_to_grid(values, grid) {
  return map((value) => {
    const whole = Math.round(value / grid); // rounds ties up
    return (whole - value / grid === 0.5 && whole % 2 ? whole - 1 : whole) * grid;
  }, values);
}

// Round values to the nearest float32 numbers; replace tiny values with zero.
function round_to_float32(values) {
  return map((value) => (Math.abs(value) < SMALLEST ? 0 : Math.fround(value)), values);
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

// Return the rule for update `number`, counted from 1. In exact mode, its values are float32.
function update_rule({ lr, theta, optimizer, exact }, number = 1) {
  const numbers = { lr, weight_decay: 0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
  if (exact) for (const name in numbers) numbers[name] = Math.fround(numbers[name]);
  const { beta1, beta2 } = numbers;
  const corrections = { c_m: 1 - beta1 ** number, c_v: 1 - beta2 ** number };
  return { ...numbers, ...corrections, theta, optimizer: exact ? `exact ${optimizer}` : optimizer };
}

// Create a training run; throw an Error if it cannot begin. `text` is the story or another text.
function begin(settings, text) {
  const { normalize: how, batch_size, num_steps } = settings;
  const counted = (number) => number.toLocaleString("en");
  if (text.length > MOST_CHARACTERS) {
    throw Error(`The text has ${counted(text.length)} characters, and this page takes at most `
      + `${counted(MOST_CHARACTERS)}. Use a part of it.`);
  }
  if (!text.trim()) throw Error("There is no text. Paste one, or choose the story.");
  const normalized = normalize(text, how);
  if (!normalized) {
    throw Error("The text has no letters from a to z, so that nothing is left of it. "
      + "Keep all its characters instead.");
  }
  const vocab = vocabulary(normalized);
  const tokens = tokens_of(normalized, vocab).slice(0, settings.max_tokens);
  const needed = (batch_size + 1) * num_steps;
  if (tokens.length < needed) {
    throw Error(`The text has ${counted(tokens.length)} characters to train on; with minibatches `
      + `of ${batch_size} subsequences of ${num_steps} it needs ${counted(needed)}.`);
  }
  const { cell, num_hiddens, num_layers, embedding } = settings;
  const num_states = num_layers * (cell === "lstm" ? 2 : 1);
  const options = { cell, num_hiddens, num_layers, num_states, embedding,
    vocab_size: vocab.length };
  const count = Object.values(shapes(options)).reduce((sum, [m, n = 1]) => sum + m * n, 0);
  if (count > MOST_PARAMETERS) {
    throw Error(`With ${counted(vocab.length)} different characters the network has `
      + `${counted(count)} parameters, and on this page at most ${counted(MOST_PARAMETERS)}. `
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
  const batches = of_epoch(training.tokens, training.settings, epoch);
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
function prefix_of(text, vocab) {
  const lacking = [...new Set(text)].filter((each) => vocab.indexOf(each) < 1);
  if (lacking.length) {
    const names = lacking.slice(0, 5).map((each) => `“${each}”`).join(", ");
    throw Error(`The network does not know ${names}: it has read other characters only.`);
  }
  if (!text) throw Error("The network needs at least one character to start from.");
  return tokens_of(text, vocab);
}

// Return the command that trains the same network to the end of this epoch.
function command({ corpus, ...settings }, epoch) {
  const usual = { lr: LEARNING_RATES[settings.optimizer], ...DEFAULTS };
  const options = [["--backend", "numpy"], corpus ? ["--corpus", corpus] : ["--text", "text.txt"]];
  for (const [name, option] of Object.entries(OPTIONS)) {
    const value = name === "num_epochs" ? epoch : settings[name];
    if (value !== usual[name]) options.push([option, value ?? "none"]);
  }
  return ["rnn-scratch train --exact", ...options.flat()].join(" ");
}

// Return all arrays that training changes; replace subnormal numbers in slots with zero.
function everything(model) {
  const arrays = by_name(model.params, (param) => map((x) => x + 0, param)); // x + 0 removes negative zeros
  for (const [slot, own] of Object.entries(model.slots)) {
    for (const name in model.params) {
      arrays[`${slot}.${name}`] = map((x) => (Math.abs(x) < 2 ** -1022 ? 0 : x), own[name]);
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
  const turned = (x, n) => (x >>> n) | (x << (32 - n));
  const w = new Int32Array(64);
  for (let start = 0; start < bytes.length; start += 64) {
    for (let n = 0; n < 64; n++) {
      if (n < 16) {
        w[n] = view.getInt32(start + 4 * n);
        continue;
      }
      const [p, q] = [w[n - 15], w[n - 2]];
      const mixed = turned(p, 7) ^ turned(p, 18) ^ (p >>> 3);
      w[n] = w[n - 16] + mixed + w[n - 7] + (turned(q, 17) ^ turned(q, 19) ^ (q >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = H;
    for (let n = 0; n < 64; n++) {
      const first = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
      const one = (h + first + ((e & f) ^ (~e & g)) + K[n] + w[n]) | 0;
      const second = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22);
      const two = (second + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((each, n) => (H[n] = (H[n] + each) | 0));
  }
  return H.map((each) => (each >>> 0).toString(16).padStart(8, "0")).join("");
}
