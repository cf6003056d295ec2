// The networks of weights.js, with the functions of `scratch.py` under the same names.
"use strict";

// There is one sequence, so that a state is a tuple of rows (H,) and not (B, H). A matrix is an
// array of its rows.

function add(...rows) {
  return rows[0].map((_, j) => rows.reduce((sum, row) => sum + row[j], 0));
}

function multiply(x, W) {
  const product = new Float64Array(W[0].length);
  W.forEach((row, k) => {
    if (x[k] === 0) return; // of a one-hot vector, all but one
    for (let j = 0; j < row.length; j++) product[j] += x[k] * row[j];
  });
  return product;
}

function linear(x, H, name, params) {
  const W_x = params[`W_x${name}`], W_h = params[`W_h${name}`];
  return add(multiply(x, W_x), multiply(H, W_h), params[`b_${name}`]);
}

function state(options) {
  const zeros = () => new Float64Array(options.num_hiddens);
  return Array.from({ length: options.num_states }, zeros);
}

function encode(token, params) {
  return params.b_q.map((_, j) => (j === token ? 1 : 0));
}

function rnn(x, state, params) {
  let [H] = state;
  H = linear(x, H, "h", params).map(Math.tanh);
  return [H];
}

function gate(x, H, name, params) {
  const z = linear(x, H, name, params);
  return z.map((value) => 1 / (1 + Math.exp(-value)));
}

function lstm(x, state, params) {
  let [H, C] = state;
  const [i, f, o] = [..."ifo"].map((name) => gate(x, H, name, params));
  const next = linear(x, H, "c", params).map(Math.tanh);
  C = C.map((value, j) => f[j] * value + i[j] * next[j]);
  return [C.map((value, j) => o[j] * Math.tanh(value)), C];
}

const CELLS = { rnn, lstm };

function step(x, state, params, options) {
  state = CELLS[options.cell](x, state, params, options);
  return [add(multiply(state[0], params.W_hq), params.b_q), state];
}

// The next character.

function softmax(logits, temperature) {
  const largest = Math.max(...logits);
  const weights = logits.map((value) => Math.exp((value - largest) / temperature));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

function greedy(logits) {
  return logits.indexOf(Math.max(...logits));
}

function sample(logits, temperature) {
  let rest = Math.random();
  const token = softmax(logits, temperature).findIndex((share) => (rest -= share) < 0);
  return token < 0 ? greedy(logits) : token; // the rounded shares may add up to less than 1
}

// Reading the weights, and a text.

function decode({ shape: [rows, columns], data }) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer); // of float32, the lowest byte first
  const values = new Float64Array(bytes.length / 4).map((_, n) => view.getFloat32(4 * n, true));
  if (columns === undefined) return values;
  const row = (_, n) => values.subarray(n * columns, (n + 1) * columns);
  return Array.from({ length: rows }, row);
}

function load(saved) {
  const params = Object.entries(saved.params).map(([name, array]) => [name, decode(array)]);
  return { ...saved, params: Object.fromEntries(params) };
}

function tokenize(text, vocab) {
  const normalized = text.toLowerCase().replace(/[^a-z]+/g, " ").trimStart();
  return [...normalized].map((each) => vocab.indexOf(each)).filter((token) => token >= 0);
}

// The steps that a network makes for these tokens, after those that it has made before.
function read(tokens, { params, options }, before = []) {
  const steps = [...before];
  for (const token of tokens) {
    const last = steps.length ? steps[steps.length - 1].state : state(options);
    const [logits, next] = step(encode(token, params), last, params, options);
    steps.push({ token, logits, state: next });
  }
  return steps;
}
