// A recurrent language model in JavaScript, with hand-written backward passes: the functions of
// the NumPy backend's `scratch.py`, `cells.py` and `deep.py`, in float64, for one worker.
//
// Sizes: B batch, T time steps, V vocabulary, L layers, H hidden units, N embedding. Tokens are
// lists; dropout masks are T lists of L arrays (B, H). `arrays.js` has the NumPy operations.
"use strict";

// Create the parameters W_xg (V, H) or (N, H), W_hg (H, H) and b_g (H,) of each gate g, W_hq and b_q.
function params(arrays) {
  return by_name(arrays, copy);
}

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

// Backpropagate through x W_xg + h W_hg + b_g for gate g; return d_x, d_h and grads.
function linear_backward(dz, x, h, name, params) {
  const grads = {
    [`W_x${name}`]: dot(transpose(x), dz), [`W_h${name}`]: dot(transpose(h), dz),
    [`b_${name}`]: sum_of_rows(dz),
  };
  const back = (weights) => dot(dz, transpose(params[weights + name]));
  return [back("W_x"), back("W_h"), grads];
}

// Compute the next state from x (B, V), or (B, N), and the current state.
function rnn(x, state, params, options) {
  let [h] = state;
  h = activation(add(dot(x, params.W_xh), dot(h, params.W_hh), params.b_h), options); // (B, H)
  return [h];
}

// Backpropagate through `rnn`.
function rnn_backward(d_next_state, next_state, x, state, params, options) {
  const [[d_h], [h], [h_prev]] = [d_next_state, next_state, state];
  const dz = times(d_h, slope(h, options));
  const [d_x, d_prev_h, grads] = linear_backward(dz, x, h_prev, "h", params);
  return [d_x, [d_prev_h], grads];
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

// Backpropagate through `gru`; recompute the gates.
function gru_backward(d_next_state, next_state, x, state, params, options) {
  const [[d_h], [h]] = [d_next_state, state];
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params));
  const rh = times(r, h);
  const next = activation(add(dot(x, params.W_xh), dot(rh, params.W_hh), params.b_h), options);
  const d_next = map((d_h, z, s) => d_h * (1 - z) * s, d_h, z, slope(next, options));
  const d_z = map((d_h, h, next, z) => d_h * (h - next) * z * (1 - z), d_h, h, next, z);
  const [d_x_h, d_rh, grads_h] = linear_backward(d_next, x, rh, "h", params);
  const [d_x_z, d_h_z, grads_z] = linear_backward(d_z, x, h, "z", params);
  const d_r = map((d_rh, h, r) => d_rh * h * r * (1 - r), d_rh, h, r);
  const [d_x_r, d_h_r, grads_r] = linear_backward(d_r, x, h, "r", params);
  const direct = map((d_h, z, d_rh, r) => d_h * z + d_rh * r, d_h, z, d_rh, r);
  const grads = { ...grads_h, ...grads_z, ...grads_r };
  return [add(d_x_h, d_x_z, d_x_r), [add(direct, d_h_z, d_h_r)], grads];
}

// Compute one GRU step; apply the reset gate after the product, as most built-in layers do.
function gru_after(x, state, params, options) {
  const [h] = state;
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params));
  const product = times(r, dot(h, params.W_hh));
  const next = activation(add(dot(x, params.W_xh), product, params.b_h), options);
  return [map((z, h, next) => z * h + (1 - z) * next, z, h, next)];
}

// Backpropagate through `gru_after`; recompute the gates.
function gru_after_backward(d_next_state, next_state, x, state, params, options) {
  const [[d_h], [h]] = [d_next_state, state];
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params));
  const product = dot(h, params.W_hh);
  const next = activation(add(dot(x, params.W_xh), times(r, product), params.b_h), options);
  const d_next = map((d_h, z, s) => d_h * (1 - z) * s, d_h, z, slope(next, options));
  const d_z = map((d_h, h, next, z) => d_h * (h - next) * z * (1 - z), d_h, h, next, z);
  const [d_x_h, , grads_h] = linear_backward(d_next, x, h, "h", params);
  const [d_x_z, d_h_z, grads_z] = linear_backward(d_z, x, h, "z", params);
  const d_r = map((d, product, r) => d * product * r * (1 - r), d_next, product, r);
  const [d_x_r, d_h_r, grads_r] = linear_backward(d_r, x, h, "r", params);
  const d_product = times(d_next, r);
  grads_h.W_hh = dot(transpose(h), d_product);
  const d_prev_h = add(times(d_h, z), dot(d_product, transpose(params.W_hh)), d_h_z, d_h_r);
  return [add(d_x_h, d_x_z, d_x_r), [d_prev_h], { ...grads_h, ...grads_z, ...grads_r }];
}

// Compute one LSTM step; the state consists of the hidden state h and the cell state c.
function lstm(x, state, params, options) {
  let [h, c] = state;
  const [i, f, o] = [..."ifo"].map((name) => gate(x, h, name, params)); // input, forget, output
  const next = activation(add(dot(x, params.W_xc), dot(h, params.W_hc), params.b_c), options);
  c = map((f, c, i, next) => f * c + i * next, f, c, i, next);
  return [times(o, activation(c, options)), c];
}

// Backpropagate through `lstm`; recompute the gates.
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
    ([name, dz]) => linear_backward(dz, x, h, name, params));
  const [d_x, d_prev_h] = [0, 1].map((n) => add(...results.map((result) => result[n])));
  const grads = Object.assign({}, ...results.map((result) => result[2]));
  return [d_x, [d_prev_h, times(d_c, f)], grads];
}

const CELLS = { rnn, gru, "gru-after": gru_after, lstm, "rnn-relu": rnn };
const CELL_BACKWARD = {
  rnn: rnn_backward, gru: gru_backward, "gru-after": gru_after_backward, lstm: lstm_backward,
  "rnn-relu": rnn_backward,
};

// Run all layers on x (B, V) or (B, N) and masks (L, B, H) or null; return logits and next state.
function step(x, state, params, options, masks = null) {
  const next_state = [];
  split_by_layer(state, options).forEach((layer_state, layer) => {
    const hidden = CELLS[options.cell](x, layer_state, select_layer(params, layer), options);
    x = masks ? times(hidden[0], masks[layer]) : hidden[0]; // dropout
    next_state.push(...hidden);
  });
  return [add(dot(x, params.W_hq), params.b_q), next_state];
}

// Backpropagate through `step`.
function step_backward(d_logits, d_next_state, next_state, x, state, params, options, masks = null) {
  const layers = [d_next_state, next_state, state].map((tensors) => split_by_layer(tensors, options));
  const drop = (h, layer) => (masks ? times(h, masks[layer]) : h);
  // Backpropagate through the output layer, then through the cells from last to first.
  const inputs = [x, ...layers[1].map((hidden, layer) => drop(hidden[0], layer))];
  const grads = { W_hq: dot(transpose(inputs.at(-1)), d_logits), b_q: sum_of_rows(d_logits) };
  let [d_x, d_state] = [dot(d_logits, transpose(params.W_hq)), []];
  for (let layer = options.num_layers - 1; layer >= 0; layer--) {
    let [d_hidden, hidden, layer_state] = layers.map((states) => states[layer]);
    // Add the gradients from the next layer and from the next time step.
    d_hidden = [add(d_hidden[0], drop(d_x, layer)), ...d_hidden.slice(1)];
    const cell = [inputs[layer], layer_state, select_layer(params, layer), options];
    const [d_input, d_layer_state, cell_grads] = CELL_BACKWARD[options.cell](d_hidden, hidden, ...cell);
    Object.assign(grads, add_layer_suffix(cell_grads, layer));
    [d_x, d_state] = [d_input, [...d_layer_state, ...d_state]];
  }
  return [d_x, d_state, grads];
}

// Run all time steps on tokens (B, T); return time-major logits (T*B, V) and the last state.
function forward(tokens, state, params, options, masks = null) {
  const outputs = columns(tokens).map((tokens, t) => { // tokens: (B,)
    const [logits, next_state] = step(encode(tokens, params), state, params, options, masks?.[t]);
    state = next_state;
    return logits;
  });
  return [concatenate(outputs), state];
}

// Return the mean cross-entropy between time-major logits (T*B, V) and targets (B, T).
function loss(logits, targets) {
  const labels = columns(targets).flat(); // (T*B,), in the same order as the logits
  const logs = log_softmax(logits);
  return -labels.reduce((sum, label, n) => sum + row(logs, n)[label], 0) / labels.length;
}

// Return the gradient of `loss` w.r.t. the logits: (softmax - one-hot) / (T*B).
function loss_backward(logits, targets) {
  const labels = columns(targets).flat(); // (T*B,)
  const d_logits = map(Math.exp, log_softmax(logits)); // (T*B, V)
  labels.forEach((label, n) => (row(d_logits, n)[label] -= 1));
  return map((x) => x / labels.length, d_logits);
}

// Convert logits (T*B, V) to log-probabilities (T*B, V).
function log_softmax(logits) {
  const logs = copy(logits);
  for (let n = 0; n < logs.shape[0]; n++) {
    const values = row(logs, n), max = Math.max(...values);
    const sum = values.reduce((sum, x) => sum + Math.exp(x - max), 0);
    values.forEach((x, j) => (values[j] = x - max - Math.log(sum)));
  }
  return logs;
}

// Return the state detached from the graph, so that no gradient flows back through it.
function detach(state) {
  return state; // arrays have no graph
}

// Return a minibatch's loss, the gradient w.r.t. each parameter, and the detached state.
function gradients(model, batch, state) {
  return backward(batch, state, model.params, model.options); // JavaScript has no automatic differentiation
}

// Compute the results of `gradients` with a hand-written backward pass.
function backward(batch, state, params, options) {
  const inputs = columns(batch.X).map((tokens) => encode(tokens, params)); // T arrays (B, V)
  const [states, outputs] = [[state], []];
  inputs.forEach((x, t) => {
    const [logits, next_state] = step(x, states[t], params, options, batch.masks?.[t]);
    outputs.push(logits);
    states.push(next_state);
  });
  const logits = concatenate(outputs); // (T*B, V)
  const d_outputs = split(loss_backward(logits, batch.Y), inputs.length); // T arrays (B, V)
  const grads = by_name(params, (param) => zeros(...param.shape));
  let d_state = state.map((tensor) => zeros(...tensor.shape));
  for (let t = inputs.length - 1; t >= 0; t--) {
    const [d_x, d_previous, step_grads] = step_backward(
      d_outputs[t], d_state, states[t + 1], inputs[t], states[t], params, options, batch.masks?.[t]
    );
    for (const name in step_grads) grads[name] = add(grads[name], step_grads[name]);
    if (params.W_e) add_at(grads.W_e, columns(batch.X)[t], d_x);
    d_state = d_previous;
  }
  return [loss(logits, batch.Y), grads, detach(states.at(-1))];
}

// Clip gradients to global norm theta; return the clipped gradients and the original norm.
function clip(grads, theta) {
  let sum = 0;
  for (const grad of Object.values(grads)) for (const x of grad.values) sum += x * x;
  const norm = Math.sqrt(sum);
  if (theta === null) return [grads, norm];
  const scale = theta / Math.max(norm, theta); // min(1, theta/norm) without a division by 0
  return [by_name(grads, (grad) => map((x) => x * scale, grad)), norm];
}

// Apply one gradient-descent step.
function sgd(model, grads, { lr }) {
  for (const [name, param] of Object.entries(model.params)) {
    model.params[name] = map((p, g) => p - lr * g, param, grads[name]);
  }
}

// Apply SGD with momentum: m is an exponentially weighted sum of the gradients so far.
function momentum(model, grads, { lr, beta1, weight_decay }) {
  const { m } = model.slots;
  for (const [name, param] of Object.entries(model.params)) {
    m[name] = map((m, g) => beta1 * m + g, m[name], grads[name]);
    model.params[name] = map((p, m) => p - lr * (m + weight_decay * p), param, m[name]);
  }
}

// Apply Adam (Kingma & Ba, 2015) with moving averages m of the gradient and v of its square.
function adam(model, grads, { lr, beta1, beta2, epsilon, c_m, c_v, weight_decay }) {
  const { m, v } = model.slots;
  for (const [name, param] of Object.entries(model.params)) {
    m[name] = map((m, g) => beta1 * m + (1 - beta1) * g, m[name], grads[name]);
    v[name] = map((v, g) => beta2 * v + (1 - beta2) * (g * g), v[name], grads[name]);
    const direction = map((m, v) => m / c_m / (Math.sqrt(v / c_v) + epsilon), m[name], v[name]);
    model.params[name] = map((p, d) => p - lr * (d + weight_decay * p), param, direction);
  }
}

const OPTIMIZERS = { sgd, momentum, adam };

// Train on one minibatch X, Y (B, T); return its loss and the detached state.
function train_minibatch(model, batch, state, update) {
  let [mean_loss, grads, next_state] = gradients(model, batch, state);
  [grads] = clip(grads, update.theta);
  OPTIMIZERS[update.optimizer](model, grads, update);
  return [mean_loss, next_state];
}

// Train on all minibatches, starting at `last` or zeros; return the losses and last state.
function train_epoch(model, minibatches, updates, carry, last = null) {
  const losses = [];
  minibatches.forEach((batch, n) => {
    const first = carry && last ? last : state(batch.X.length, model.options);
    [losses[losses.length], last] = train_minibatch(model, batch, first, updates[n]);
  });
  return [losses, last];
}

// Evaluate sequential minibatches; return the total loss and the number of tokens.
function evaluate(model, minibatches) {
  let [total_loss, num_tokens, last, logits] = [0, 0, null, null];
  for (const { X, Y } of minibatches) {
    last ??= state(X.length, model.options);
    [logits, last] = forward(X, last, model.params, model.options);
    total_loss += loss(logits, Y) * X.length * X[0].length;
    num_tokens += X.length * X[0].length;
  }
  return [total_loss, num_tokens];
}

// Return `prefix` plus `num_preds` tokens, each chosen by `choose_token` from logits (V,).
function predict(model, prefix, num_preds, choose_token) {
  let [last, outputs, logits] = [state(1, model.options), [prefix[0]], null];
  for (let t = 1; t < prefix.length + num_preds; t++) {
    [logits, last] = forward([outputs.slice(-1)], last, model.params, model.options);
    // Warm-up: take the next token from the prefix until it is exhausted.
    outputs.push(t < prefix.length ? prefix[t] : choose_token(logits.values));
  }
  return outputs;
}

// Build the plain model from initial parameter values.
function build(arrays, options) {
  return { params: params(arrays), options, slots: {} };
}
