// A trained network: load weights, read text, and attribute predictions to characters.
"use strict";

// Decoding: choose the next character.

function softmax(logits, temperature) {
  const max = Math.max(...logits);
  const weights = logits.map((value) => Math.exp((value - max) / temperature));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

// Token 0, <unk>, is never chosen.
function greedy(logits) {
  return logits.indexOf(Math.max(...logits.slice(1)), 1);
}

function sample(logits, temperature) {
  let rest = Math.random();
  const token = 1 + softmax(logits.slice(1), temperature).findIndex((share) => (rest -= share) < 0);
  return token < 1 ? greedy(logits) : token; // the sum of rounded probabilities can be below 1
}

// Load weights and read text.

// Decode an array; its numbers are multiples of a scale.
function decode({ shape, data, scale = 1 }) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer); // integers or little-endian floating-point numbers
  const array = zeros(...shape), size = bytes.length / array.values.length;
  const read = {
    1: (offset) => view.getInt8(offset),
    2: (offset) => half(view.getUint16(offset, true)),
    4: (offset) => view.getFloat32(offset, true),
    8: (offset) => view.getFloat64(offset, true),
  }[size];
  array.values.forEach((_, n, values) => (values[n] = scale * read(size * n)));
  return array;
}

// Convert the 16 bits (sign, exponent and fraction) of a half-precision number to a number.
function half(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
  return bits >> 15 ? -size : size;
}

function load(saved) {
  return { ...saved, params: by_name(saved.params, decode) };
}

// Normalize a text like the network's training text; return its tokens, and the characters that
// the vocabulary lacks.
function tokenize(text, { vocab, normalize }) {
  if (normalize !== "none") text = text.toLowerCase().replace(/[^a-z]+/g, " ").trimStart();
  const tokens = [...text].map((c) => vocab.indexOf(c));
  const missing = new Set([...text].filter((_, n) => tokens[n] < 0));
  return [tokens.filter((token) => token >= 0), [...missing]];
}

// Read tokens after previous steps; return all steps.
function read(tokens, { params, options }, previous = []) {
  const steps = [...previous];
  for (const token of tokens) {
    const last = steps.length ? steps.at(-1).state : state(1, options);
    const [logits, next] = step(encode([token], params), last, params, options);
    steps.push({ token, logits: logits.values, state: next });
  }
  return steps;
}

// Return the influence of up to `number` last characters on the logit of a token: for each
// character, the gradient of the logit with respect to the input vector, times this vector.
function influence(steps, token, number, model) {
  const { params, options } = model;
  let [d_logits, d_state] = [zeros(1, params.b_q.shape[0]), state(1, options)];
  d_logits.values[token] = 1;
  const first = Math.max(0, steps.length - number), influences = [];
  for (let t = steps.length - 1; t >= first; t--) {
    const x = encode([steps[t].token], params);
    const previous = t ? steps[t - 1].state : state(1, options);
    const [d_x, d_previous] = step_backward(
      d_logits, d_state, steps[t].state, x, previous, params, options
    );
    influences.unshift(times(d_x, x).values.reduce((a, b) => a + b, 0));
    [d_logits, d_state] = [zeros(...d_logits.shape), d_previous]; // only the last step's logit counts
  }
  return influences;
}
