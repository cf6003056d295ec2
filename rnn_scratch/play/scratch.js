// A recurrent language model in JavaScript: functions of the NumPy backend's `scratch.py` and
// `cells.py`, in float64. The backward passes compute gradients w.r.t. inputs and states only.
//
// Sizes: B batch, V vocabulary, H hidden units, N embedding. `arrays.js` has the NumPy operations.
"use strict";

// Return the initial state: zeros (B, H) for each state tensor of each layer.
function state(batch_size, options) {
  return Array.from({ length: options.num_states }, () => zeros(batch_size, options.num_hiddens));
}

// Encode tokens (B,) as one-hot vectors (B, V), or look up a learnable embedding (B, N).
function encode(tokens, params) {
  const { W_e, b_q } = params;
  const x = zeros(tokens.length, W_e ? W_e.shape[1] : b_q.shape[0]);
  tokens.forEach((token, b) => (W_e ? row(x, b).set(row(W_e, token)) : (row(x, b)[token] = 1)));
  return x;
}

// Compute the cell's activation function: the hyperbolic tangent or ReLU.
function activation(z, options) {
  return map(options.cell !== "rnn-relu" ? Math.tanh : (x) => Math.max(x, 0), z);
}

// Return the derivative of the activation function, given its value h.
function slope(h, options) {
  return map(options.cell !== "rnn-relu" ? (x) => 1 - x * x : (x) => +(x > 0), h);
}

// Backpropagate through x W_xg + h W_hg for gate g; return the gradients w.r.t. x and h.
function linear_backward(dz, name, params) {
  return ["W_x", "W_h"].map((weights) => dot(dz, transpose(params[weights + name])));
}

// Compute the next state from x (B, V), or (B, N), and the current state.
function rnn(x, state, params, options) {
  let [h] = state;
  h = activation(add(dot(x, params.W_xh), dot(h, params.W_hh), params.b_h), options); // (B, H)
  return [h];
}

// Backpropagate through `rnn`.
function rnn_backward(d_next_state, next_state, x, state, params, options) {
  const [[d_h], [h]] = [d_next_state, next_state];
  const [d_x, d_prev_h] = linear_backward(times(d_h, slope(h, options)), "h", params);
  return [d_x, [d_prev_h]];
}

// Compute a gate (B, H), with values between 0 and 1, from x (B, V), or (B, N), and h (B, H).
function gate(x, h, name, params) {
  const z = add(dot(x, params[`W_x${name}`]), dot(h, params[`W_h${name}`]), params[`b_${name}`]);
  return map((z) => 1 / (1 + Math.exp(-z)), z);
}

// Compute one GRU step; apply the reset gate before the matrix product.
function gru(x, state, params, options) {
  const [h] = state;
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params)); // update and reset, (B, H)
  const product = dot(times(r, h), params.W_hh);
  const next = activation(add(dot(x, params.W_xh), product, params.b_h), options);
  return [map((z, h, next) => z * h + (1 - z) * next, z, h, next)];
}

// Backpropagate through `gru`, recomputing the gates.
function gru_backward(d_next_state, next_state, x, state, params, options) {
  const [[d_h], [h]] = [d_next_state, state];
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params));
  const product = dot(times(r, h), params.W_hh);
  const next = activation(add(dot(x, params.W_xh), product, params.b_h), options);
  const d_next = map((d_h, z, s) => d_h * (1 - z) * s, d_h, z, slope(next, options));
  const d_z = map((d_h, h, next, z) => d_h * (h - next) * z * (1 - z), d_h, h, next, z);
  const [d_x_h, d_rh] = linear_backward(d_next, "h", params);
  const [d_x_z, d_h_z] = linear_backward(d_z, "z", params);
  const d_r = map((d_rh, h, r) => d_rh * h * r * (1 - r), d_rh, h, r);
  const [d_x_r, d_h_r] = linear_backward(d_r, "r", params);
  const direct = map((d_h, z, d_rh, r) => d_h * z + d_rh * r, d_h, z, d_rh, r);
  return [add(d_x_h, d_x_z, d_x_r), [add(direct, d_h_z, d_h_r)]];
}

// Compute one GRU step; apply the reset gate after the product, as most built-in layers do.
function gru_after(x, state, params, options) {
  const [h] = state;
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params));
  const product = times(r, add(dot(h, params.W_hh), params.b_hh));
  const next = activation(add(dot(x, params.W_xh), product, params.b_h), options);
  return [map((z, h, next) => z * h + (1 - z) * next, z, h, next)];
}

// Backpropagate through `gru_after`, recomputing the gates.
function gru_after_backward(d_next_state, next_state, x, state, params, options) {
  const [[d_h], [h]] = [d_next_state, state];
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params));
  const product = add(dot(h, params.W_hh), params.b_hh);
  const next = activation(add(dot(x, params.W_xh), times(r, product), params.b_h), options);
  const d_next = map((d_h, z, s) => d_h * (1 - z) * s, d_h, z, slope(next, options));
  const d_z = map((d_h, h, next, z) => d_h * (h - next) * z * (1 - z), d_h, h, next, z);
  const d_x_h = dot(d_next, transpose(params.W_xh));
  const [d_x_z, d_h_z] = linear_backward(d_z, "z", params);
  const d_r = map((d, product, r) => d * product * r * (1 - r), d_next, product, r);
  const [d_x_r, d_h_r] = linear_backward(d_r, "r", params);
  const d_product = dot(times(d_next, r), transpose(params.W_hh));
  return [add(d_x_h, d_x_z, d_x_r), [add(times(d_h, z), d_product, d_h_z, d_h_r)]];
}

// Compute one LSTM step; the state consists of the hidden state h and the cell state c.
function lstm(x, state, params, options) {
  let [h, c] = state;
  const [i, f, o] = [..."ifo"].map((name) => gate(x, h, name, params)); // input, forget, output
  const next = activation(add(dot(x, params.W_xc), dot(h, params.W_hc), params.b_c), options);
  c = map((f, c, i, next) => f * c + i * next, f, c, i, next);
  return [times(o, activation(c, options)), c];
}

// Backpropagate through `lstm`, recomputing the gates.
function lstm_backward(d_next_state, next_state, x, state, params, options) {
  let [[d_h, d_c], [, next_c], [h, c]] = [d_next_state, next_state, state];
  const [i, f, o] = [..."ifo"].map((name) => gate(x, h, name, params));
  const next = activation(add(dot(x, params.W_xc), dot(h, params.W_hc), params.b_c), options);
  const out = activation(next_c, options);
  d_c = map((d_c, d_h, o, s) => d_c + d_h * o * s, d_c, d_h, o, slope(out, options));
  const d_gates = {
    i: map((d_c, next, i) => d_c * next * i * (1 - i), d_c, next, i),
    f: map((d_c, c, f) => d_c * c * f * (1 - f), d_c, c, f),
    o: map((d_h, out, o) => d_h * out * o * (1 - o), d_h, out, o),
    c: map((d_c, i, s) => d_c * i * s, d_c, i, slope(next, options)),
  };
  const results = Object.entries(d_gates).map(
    ([name, dz]) => linear_backward(dz, name, params));
  const [d_x, d_prev_h] = [0, 1].map((n) => add(...results.map((result) => result[n])));
  return [d_x, [d_prev_h, times(d_c, f)]];
}

const CELLS = { rnn, gru, "gru-after": gru_after, lstm, "rnn-relu": rnn };
const CELL_BACKWARD = {
  rnn: rnn_backward, gru: gru_backward, "gru-after": gru_after_backward, lstm: lstm_backward,
  "rnn-relu": rnn_backward,
};

// Run all layers on x (B, V) or (B, N); return logits and next state.
function step(x, state, params, options) {
  const next_state = [];
  split_by_layer(state, options).forEach((layer_state, layer) => {
    const hidden = CELLS[options.cell](x, layer_state, select_layer(params, layer), options);
    x = hidden[0];
    next_state.push(...hidden);
  });
  return [add(dot(x, params.W_hq), params.b_q), next_state];
}

// Backpropagate through `step`: from the output layer through the cells, from last to first.
function step_backward(d_logits, d_next_state, next_state, x, state, params, options) {
  const layers = [d_next_state, next_state, state].map((tensors) => split_by_layer(tensors, options));
  const inputs = [x, ...layers[1].map(([h]) => h)];
  let [d_x, d_state] = [dot(d_logits, transpose(params.W_hq)), []];
  for (let layer = options.num_layers - 1; layer >= 0; layer--) {
    const [[d_h, ...others], hidden, layer_state] = layers.map((states) => states[layer]);
    // Add the gradients from the next layer and from the next time step.
    const cell = [inputs[layer], layer_state, select_layer(params, layer), options];
    const [d_input, d_layer_state] = CELL_BACKWARD[options.cell](
      [add(d_h, d_x), ...others], hidden, ...cell);
    [d_x, d_state] = [d_input, [...d_layer_state, ...d_state]];
  }
  return [d_x, d_state];
}
