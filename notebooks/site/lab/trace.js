// The memory lab's networks: read a symbol, fillers and a query, and backpropagate the loss of the
// answer to every state. `make/lab.py` has the same functions in NumPy.
"use strict";

const QUERY = 12; // tokens 0 to 3 are symbols, tokens 4 to 11 are fillers

// Return a symbol, random fillers and the query; equal seeds give equal tokens.
function draw_tokens(num_fillers, seed) {
  let bits = Math.imul(seed, 2654435769); // spread small seeds over all 32-bit integers
  const fillers = Array.from({ length: num_fillers }, () => {
    bits = (Math.imul(bits, 1664525) + 1013904223) >>> 0; // a linear congruential generator
    return 4 + (bits >>> 29);
  });
  return [seed % 4, ...fillers, QUERY];
}

// Return what multiplies the old state at a step: a cell's gates or, for the RNN, tanh's slope.
function gates(x, [h], [next_h], params, options) {
  const names = { gru: "zr", lstm: "fio" }[options.cell];
  if (!names) return { slope: slope(next_h, options) };
  return Object.fromEntries([...names].map((name) => [name, gate(x, h, name, params)]));
}

// Return the context (1, H) of the last output, and the weights of the earlier outputs.
function attend(hiddens, { W_a }) {
  const [h, earlier] = [hiddens.at(-1), hiddens.slice(0, -1)];
  const query = transpose(dot(h, W_a)), scale = Math.sqrt(query.shape[0]);
  const weights = softmax(earlier.map((other) => dot(other, query).values[0] / scale), 1);
  return [add(...earlier.map((other, s) => map((value) => weights[s] * value, other))), weights];
}

// Backpropagate through `attend`; return the gradients w.r.t. all outputs.
function attend_backward(d_context, hiddens, params) {
  const [h, earlier] = [hiddens.at(-1), hiddens.slice(0, -1)];
  const [query, scale] = [dot(h, params.W_a), Math.sqrt(h.shape[1])];
  const [, weights] = attend(hiddens, params);
  const d_weights = earlier.map((other) => dot(other, transpose(d_context)).values[0]);
  const mean = weights.reduce((sum, weight, s) => sum + weight * d_weights[s], 0);
  const d_scores = weights.map((weight, s) => (weight * (d_weights[s] - mean)) / scale);
  const d_query = add(...earlier.map((other, s) => map((value) => d_scores[s] * value, other)));
  const d_earlier = weights.map((weight, s) =>
    map((d, q) => weight * d + d_scores[s] * q, d_context, query));
  return [...d_earlier, dot(d_query, transpose(params.W_a))];
}

// Read tokens and answer. `states` and `d_states`, the gradients of the answer's loss w.r.t. the
// states, begin with the state before the first token; `gates` has an object for each token.
function trace(tokens, { params, options, attention }) {
  const [inputs, states] = [tokens.map((token) => encode([token], params)), [state(1, options)]];
  for (const x of inputs) {
    states.push(CELLS[options.cell](x, states.at(-1), params, options));
  }
  const hiddens = states.slice(1).map(([h]) => h);
  let logits = add(dot(hiddens.at(-1), params.W_hq), params.b_q);
  const [context, weights] = attention ? attend(hiddens, params) : [];
  if (attention) logits = add(logits, dot(context, params.W_uq));
  const shares = softmax(logits.values, 1);
  const d_logits = { shape: logits.shape, values: shares.slice() }; // softmax minus one-hot
  d_logits.values[tokens[0]] -= 1;
  const d_hiddens = attention
    ? attend_backward(dot(d_logits, transpose(params.W_uq)), hiddens, params)
    : hiddens.map(() => zeros(1, options.num_hiddens));
  const last = d_hiddens.length - 1;
  d_hiddens[last] = add(d_hiddens[last], dot(d_logits, transpose(params.W_hq)));
  let d_state = state(1, options);
  const d_states = [];
  for (let t = last; t >= 0; t--) {
    d_state = [add(d_state[0], d_hiddens[t]), ...d_state.slice(1)];
    d_states.unshift(d_state);
    [, d_state] = CELL_BACKWARD[options.cell](
      d_state, states[t + 1], inputs[t], states[t], params, options);
  }
  d_states.unshift(d_state);
  const all_gates = inputs.map((x, t) => gates(x, states[t], states[t + 1], params, options));
  return { tokens, states, d_states, gates: all_gates, logits: logits.values, shares, weights };
}
