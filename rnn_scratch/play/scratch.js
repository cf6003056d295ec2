// A recurrent language model from scratch in JavaScript, differentiated by hand: the functions of
// NumPy's `scratch.py`, `cells.py` and `deep.py`, in float64, for one worker.
//
// Sizes: B batch, T time steps, V vocabulary, L layers, H hidden units, N embedding. Tokens are
// lists, masks of dropout T lists of L arrays (B, H). What NumPy does is in `arrays.js`.
"use strict";

// Trainable: W_xg (V, H) or (N, H), W_hg (H, H), b_g (H,) of gate g; W_hq (H, V), b_q (V,).
function params(arrays) {
  return by_name(arrays, copy);
}

// The state before the first token: zeros (B, H), those of the cell in each layer.
function state(batch_size, options) {
  return Array.from({ length: options.num_states }, () => zeros(batch_size, options.num_hiddens));
}

// One-hot vectors, tokens (B,) to (B, V); or rows of a learnable embedding, (B, N).
function encode(tokens, params) {
  const { W_e, b_q } = params;
  const x = zeros(tokens.length, W_e ? W_e.shape[1] : b_q.shape[0]);
  tokens.forEach((token, b) => (W_e ? row(x, b).set(row(W_e, token)) : (row(x, b)[token] = 1)));
  return x;
}

// Hyperbolic tangent or ReLU.
function activation(z, options) {
  return map(options.cell !== "rnn-relu" ? Math.tanh : (each) => Math.max(each, 0), z);
}

// The derivative of the activation, from its value h.
function slope(h, options) {
  return map(options.cell !== "rnn-relu" ? (each) => 1 - each * each : (each) => +(each > 0), h);
}

// Backward pass of z = x W_xg + h W_hg + b_g for gate g: gradients of x, h and these.
function linear_back(dz, x, h, name, params) {
  const grads = {
    [`W_x${name}`]: dot(transpose(x), dz), [`W_h${name}`]: dot(transpose(h), dz),
    [`b_${name}`]: sum_of_rows(dz),
  };
  const back = (weights) => dot(dz, transpose(params[weights + name]));
  return [back("W_x"), back("W_h"), grads];
}

// The recurrent cell: x (B, V), or (B, N), and a state to the next state.
function rnn(x, state, params, options) {
  let [h] = state;
  h = activation(add(dot(x, params.W_xh), dot(h, params.W_hh), params.b_h), options); // (B, H)
  return [h];
}

// Its backward pass: gradients of x, of the state before, and of the cell's parameters.
function rnn_back(d_after, after, x, before, params, options) {
  const [[d_h], [h], [h_before]] = [d_after, after, before];
  const dz = times(d_h, slope(h, options));
  const [d_x, d_h_before, grads] = linear_back(dz, x, h_before, "h", params);
  return [d_x, [d_h_before], grads];
}

// A gate, between 0 and 1: x (B, V), or (B, N), and h (B, H) to (B, H).
function gate(x, h, name, params) {
  const z = add(dot(x, params[`W_x${name}`]), dot(h, params[`W_h${name}`]), params[`b_${name}`]);
  return map((z) => 1 / (1 + Math.exp(-z)), z);
}

// The gated recurrent unit; its reset gate acts before the product.
function gru(x, state, params, options) {
  const [h] = state;
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params)); // update and reset, (B, H)
  const product = dot(times(r, h), params.W_hh);
  const next = activation(add(dot(x, params.W_xh), product, params.b_h), options);
  return [map((z, h, next) => z * h + (1 - z) * next, z, h, next)];
}

// Its backward pass, with the gates computed once more.
function gru_back(d_after, after, x, before, params, options) {
  const [[d_h], [h]] = [d_after, before];
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params));
  const rh = times(r, h);
  const next = activation(add(dot(x, params.W_xh), dot(rh, params.W_hh), params.b_h), options);
  const d_next = map((d_h, z, s) => d_h * (1 - z) * s, d_h, z, slope(next, options));
  const d_z = map((d_h, h, next, z) => d_h * (h - next) * z * (1 - z), d_h, h, next, z);
  const [d_x_h, d_rh, grads_h] = linear_back(d_next, x, rh, "h", params);
  const [d_x_z, d_h_z, grads_z] = linear_back(d_z, x, h, "z", params);
  const d_r = map((d_rh, h, r) => d_rh * h * r * (1 - r), d_rh, h, r);
  const [d_x_r, d_h_r, grads_r] = linear_back(d_r, x, h, "r", params);
  const direct = map((d_h, z, d_rh, r) => d_h * z + d_rh * r, d_h, z, d_rh, r);
  const grads = { ...grads_h, ...grads_z, ...grads_r };
  return [add(d_x_h, d_x_z, d_x_r), [add(direct, d_h_z, d_h_r)], grads];
}

// The same, but its reset gate acts after the product, as in most layers.
function gru_after(x, state, params, options) {
  const [h] = state;
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params));
  const product = times(r, dot(h, params.W_hh));
  const next = activation(add(dot(x, params.W_xh), product, params.b_h), options);
  return [map((z, h, next) => z * h + (1 - z) * next, z, h, next)];
}

// Its backward pass, likewise.
function gru_after_back(d_after, after, x, before, params, options) {
  const [[d_h], [h]] = [d_after, before];
  const [z, r] = [..."zr"].map((name) => gate(x, h, name, params));
  const product = dot(h, params.W_hh);
  const next = activation(add(dot(x, params.W_xh), times(r, product), params.b_h), options);
  const d_next = map((d_h, z, s) => d_h * (1 - z) * s, d_h, z, slope(next, options));
  const d_z = map((d_h, h, next, z) => d_h * (h - next) * z * (1 - z), d_h, h, next, z);
  const [d_x_h, , grads_h] = linear_back(d_next, x, h, "h", params);
  const [d_x_z, d_h_z, grads_z] = linear_back(d_z, x, h, "z", params);
  const d_r = map((d, product, r) => d * product * r * (1 - r), d_next, product, r);
  const [d_x_r, d_h_r, grads_r] = linear_back(d_r, x, h, "r", params);
  const d_product = times(d_next, r);
  grads_h.W_hh = dot(transpose(h), d_product);
  const d_before = add(times(d_h, z), dot(d_product, transpose(params.W_hh)), d_h_z, d_h_r);
  return [add(d_x_h, d_x_z, d_x_r), [d_before], { ...grads_h, ...grads_z, ...grads_r }];
}

// Long short-term memory: a second state, c, changes only as its gates allow.
function lstm(x, state, params, options) {
  let [h, c] = state;
  const [i, f, o] = [..."ifo"].map((name) => gate(x, h, name, params)); // input, forget, output
  const next = activation(add(dot(x, params.W_xc), dot(h, params.W_hc), params.b_c), options);
  c = map((f, c, i, next) => f * c + i * next, f, c, i, next);
  return [times(o, activation(c, options)), c];
}

// Its backward pass, likewise.
function lstm_back(d_after, after, x, before, params, options) {
  let [[d_h, d_c], [, c_after], [h, c]] = [d_after, after, before];
  const [i, f, o] = [..."ifo"].map((name) => gate(x, h, name, params));
  const next = activation(add(dot(x, params.W_xc), dot(h, params.W_hc), params.b_c), options);
  const out = activation(c_after, options);
  d_c = map((d_c, d_h, o, s) => d_c + d_h * o * s, d_c, d_h, o, slope(out, options));
  const d_gates = {
    i: map((d_c, next, i) => d_c * next * i * (1 - i), d_c, next, i),
    f: map((d_c, c, f) => d_c * c * f * (1 - f), d_c, c, f),
    o: map((d_h, out, o) => d_h * out * o * (1 - o), d_h, out, o),
    c: map((d_c, i, s) => d_c * i * s, d_c, i, slope(next, options)),
  };
  const backs = Object.entries(d_gates).map(([name, dz]) => linear_back(dz, x, h, name, params));
  const [d_x, d_h_before] = [0, 1].map((which) => add(...backs.map((each) => each[which])));
  const grads = Object.assign({}, ...backs.map((each) => each[2]));
  return [d_x, [d_h_before, times(d_c, f)], grads];
}

const CELLS = { rnn, gru, "gru-after": gru_after, lstm, "rnn-relu": rnn };
const CELLS_BACK = {
  rnn: rnn_back, gru: gru_back, "gru-after": gru_after_back, lstm: lstm_back, "rnn-relu": rnn_back,
};

// One time step: x (B, V), or (B, N), to logits (B, V), and the new state; masks, L times (B, H).
function step(x, state, params, options, masks = null) {
  const after = [];
  by_layer(state, options).forEach((before, layer) => {
    const own = CELLS[options.cell](x, before, of_layer(params, layer), options);
    x = masks ? times(own[0], masks[layer]) : own[0]; // what goes upwards
    after.push(...own);
  });
  return [add(dot(x, params.W_hq), params.b_q), after];
}

// Its backward pass: gradients of x, of the state before, and of the parameters.
function step_back(d_logits, d_after, after, x, before, params, options, masks = null) {
  const layers = [d_after, after, before].map((each) => by_layer(each, options));
  const kept = (h, layer) => (masks ? times(h, masks[layer]) : h);
  // The output layer, whose input is the last one, and then the cells from the last one down.
  const inputs = [x, ...layers[1].map((own, layer) => kept(own[0], layer))];
  const grads = { W_hq: dot(transpose(inputs.at(-1)), d_logits), b_q: sum_of_rows(d_logits) };
  let [d_x, d_before] = [dot(d_logits, transpose(params.W_hq)), []];
  for (let layer = options.num_layers - 1; layer >= 0; layer--) {
    let [d_own, own, own_before] = layers.map((each) => each[layer]);
    // From above and from the next time step.
    d_own = [add(d_own[0], kept(d_x, layer)), ...d_own.slice(1)];
    const cell = [inputs[layer], own_before, of_layer(params, layer), options];
    const [d_input, d_state, cell_grads] = CELLS_BACK[options.cell](d_own, own, ...cell);
    Object.assign(grads, to_layer(cell_grads, layer));
    [d_x, d_before] = [d_input, [...d_state, ...d_before]];
  }
  return [d_x, d_before, grads];
}

// All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state.
function forward(tokens, state, params, options, masks = null) {
  const outputs = columns(tokens).map((each, t) => { // T times (B,)
    const [logits, after] = step(encode(each, params), state, params, options, masks?.[t]);
    state = after;
    return logits;
  });
  return [concatenate(outputs), state];
}

// Mean cross-entropy: logits (T*B, V), time-major, against targets (B, T).
function loss(logits, targets) {
  const labels = columns(targets).flat(); // (T*B,), in the logits' order
  const logs = log_softmax(logits);
  return -labels.reduce((sum, label, n) => sum + row(logs, n)[label], 0) / labels.length;
}

// Its backward pass: the gradient of the logits, softmax minus one-hot over T*B.
function loss_back(logits, targets) {
  const labels = columns(targets).flat(); // (T*B,)
  const d_logits = map(Math.exp, log_softmax(logits)); // (T*B, V)
  labels.forEach((label, n) => (row(d_logits, n)[label] -= 1));
  return map((each) => each / labels.length, d_logits);
}

// Logarithms of the probabilities: (T*B, V) to (T*B, V).
function log_softmax(logits) {
  const logs = copy(logits);
  for (let n = 0; n < logs.shape[0]; n++) {
    const own = row(logs, n), largest = Math.max(...own);
    const sum = own.reduce((sum, each) => sum + Math.exp(each - largest), 0);
    own.forEach((each, j) => (own[j] = each - largest - Math.log(sum)));
  }
  return logs;
}

// The state without its history, so that no gradient flows back through it.
function detach(state) {
  return state; // an array has no history
}

// Loss of a minibatch X, Y (B, T), the gradient of each parameter, and the detached state.
function gradients(model, batch, state) {
  return backward(batch, state, model.params, model.options); // nothing differentiates here
}

// Backpropagation through time, for any cell: what `gradients` returns.
function backward(batch, state, params, options) {
  const inputs = columns(batch.X).map((tokens) => encode(tokens, params)); // T times (B, V)
  const [states, outputs] = [[state], []];
  inputs.forEach((x, t) => {
    const [logits, after] = step(x, states[t], params, options, batch.masks?.[t]);
    outputs.push(logits);
    states.push(after);
  });
  const logits = concatenate(outputs); // (T*B, V)
  const d_outputs = split(loss_back(logits, batch.Y), inputs.length); // T times (B, V)
  const grads = by_name(params, (param) => zeros(...param.shape));
  let d_state = state.map((each) => zeros(...each.shape));
  for (let t = inputs.length - 1; t >= 0; t--) {
    const [d_x, d_before, step_grads] = step_back(
      d_outputs[t], d_state, states[t + 1], inputs[t], states[t], params, options, batch.masks?.[t]
    );
    for (const name in step_grads) grads[name] = add(grads[name], step_grads[name]);
    if (params.W_e) add_at(grads.W_e, columns(batch.X)[t], d_x);
    d_state = d_before;
  }
  return [loss(logits, batch.Y), grads, detach(states.at(-1))];
}

// Gradients scaled by min(1, theta/norm), and that norm, over all parameters together.
function clip(grads, theta) {
  let sum = 0;
  for (const grad of Object.values(grads)) for (const each of grad.values) sum += each * each;
  const norm = Math.sqrt(sum);
  if (theta === null) return [grads, norm];
  const scale = theta / Math.max(norm, theta); // the same as min(1, theta/norm), and never 1/0
  return [by_name(grads, (grad) => map((each) => each * scale, grad)), norm];
}

// The nearest multiples of the grid, a half to the even one; without a grid, the values.
function rounded(values, grid) {
  if (grid === null) return values;
  return map((each) => {
    const whole = Math.round(each / grid); // a half upwards
    return (whole - each / grid === 0.5 && whole % 2 ? whole - 1 : whole) * grid;
  }, values);
}

// Plain gradient descent: the direction is the gradient, and there is nothing to remember.
function sgd(grad, slots, how, rates) {
  return [grad, {}];
}

// Polyak's heavy ball: m is a sum of all gradients, the older the less of each.
function momentum(grad, slots, how, rates) {
  const m = map((m, g) => how.beta1 * m + g, slots.m, grad);
  return [m, { m }];
}

// Adam, Algorithm 1 of Kingma and Ba (2015): running means m of g and v of g squared.
function adam(grad, slots, how, rates) {
  const m = map((m, g) => how.beta1 * m + (1 - how.beta1) * g, slots.m, grad);
  const v = map((v, g) => how.beta2 * v + (1 - how.beta2) * (g * g), slots.v, grad);
  return [map((m, v) => m / rates.c_m / (Math.sqrt(v / rates.c_v) + how.epsilon), m, v), { m, v }];
}

const OPTIMIZERS = { sgd, momentum, adam };

// One step of the optimizer in place; in exact mode, gradient and step rounded to a grid.
function update(model, grads, how, rates = null) {
  const lr = rates ? rates.lr : how.lr;
  for (const [name, param] of Object.entries(model.params)) {
    const grad = how.optimizer === "sgd" ? grads[name] : rounded(grads[name], how.grad_grid);
    const before = by_name(model.slots, (arrays) => arrays[name]);
    const [direction, slots] = OPTIMIZERS[how.optimizer](grad, before, how, rates);
    const change = map((d, p) => lr * (d + how.weight_decay * p), direction, param);
    model.params[name] = map((p, change) => p - change, param, rounded(change, how.grid));
    for (const slot in slots) model.slots[slot][name] = slots[slot];
  }
}

// One update from X, Y (B, T): its loss, and the detached state, rounded in exact mode.
function train_minibatch(model, batch, state, how) {
  let [mean, grads, after] = gradients(model, batch, state);
  [grads] = clip(grads, how.theta);
  update(model, grads, how, batch.rates);
  return [mean, after.map((each) => rounded(each, how.state_grid))];
}

// One pass over the minibatches, from a state or zeros: each loss, and the last state.
function train_epoch(model, minibatches, how, carry, last = null) {
  const losses = [];
  for (const batch of minibatches) {
    const before = carry && last ? last : state(batch.X.length, model.options);
    [losses[losses.length], last] = train_minibatch(model, batch, before, how);
  }
  return [losses, last];
}

// Summed loss and number of tokens, without training.
function evaluate(model, minibatches, carry) {
  let [summed, num_tokens, last, logits] = [0, 0, null, null];
  for (const { X, Y } of minibatches) {
    const before = carry && last ? last : state(X.length, model.options);
    [logits, last] = forward(X, before, model.params, model.options);
    summed += loss(logits, Y) * X.length * X[0].length;
    num_tokens += X.length * X[0].length;
  }
  return [summed, num_tokens];
}

// The prefix and num_preds tokens after it, each picked by `choose` from the logits (V,).
function predict(model, prefix, num_preds, choose) {
  let [last, outputs, logits] = [state(1, model.options), [prefix[0]], null];
  for (let t = 1; t < prefix.length + num_preds; t++) {
    [logits, last] = forward([outputs.slice(-1)], last, model.params, model.options);
    // Warm-up: as long as the prefix lasts, the next token is the prefix's own.
    outputs.push(t < prefix.length ? prefix[t] : choose(logits.values));
  }
  return outputs;
}

// The plain model, with parameters that start at these arrays.
function build(arrays, options) {
  return { params: params(arrays), options, slots: {} };
}
