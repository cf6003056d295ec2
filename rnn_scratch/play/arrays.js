// NumPy operations that `scratch.js` uses, on float64 arrays with one or two axes, and functions
// that split parameters by layer. An array has a shape and row-major values.
"use strict";

function zeros(...shape) {
  return { shape, values: new Float64Array(shape.reduce((a, b) => a * b, 1)) };
}

function copy(A) {
  return { shape: A.shape, values: A.values.slice() };
}

// Apply a function elementwise to up to four arrays of the same shape.
function map(f, A, B = A, C = A, D = A) {
  const [result, a, b, c, d] = [zeros(...A.shape), A.values, B.values, C.values, D.values];
  for (let k = 0; k < a.length; k++) result.values[k] = f(a[k], b[k], c[k], d[k]);
  return result;
}

function times(A, B) {
  return map((a, b) => a * b, A, B);
}

// Add arrays; an array with one axis is added to every row.
function add(first, ...others) {
  const { shape, values } = copy(first);
  for (const { values: other } of others) {
    for (let start = 0; start < values.length; start += other.length) {
      for (let k = 0; k < other.length; k++) values[start + k] += other[k];
    }
  }
  return { shape, values };
}

// Return row n, which shares memory with the array.
function row(A, n) {
  const width = A.shape[1];
  return A.values.subarray(n * width, (n + 1) * width);
}

// Multiply matrices (m, n) and (n, p). For speed, add four terms per iteration, and skip zeros,
// which are frequent in one-hot vectors.
function dot(A, B) {
  const [[m, n], p] = [A.shape, B.shape[1]];
  const [C, a, b] = [zeros(m, p), A.values, B.values];
  for (let i = 0; i < m; i++) {
    const sums = row(C, i), end = (i + 1) * n;
    let [index, start] = [i * n, 0]; // indices into a and b
    for (; index + 4 <= end; index += 4, start += 4 * p) {
      const [a0, a1, a2, a3] = [a[index], a[index + 1], a[index + 2], a[index + 3]];
      if (a0 === 0 && a1 === 0 && a2 === 0 && a3 === 0) continue;
      for (let j = 0, k = start; j < p; j++, k++) {
        sums[j] += a0 * b[k] + a1 * b[k + p] + a2 * b[k + 2 * p] + a3 * b[k + 3 * p];
      }
    }
    for (; index < end; index++, start += p) {
      if (a[index] !== 0) for (let j = 0; j < p; j++) sums[j] += a[index] * b[start + j];
    }
  }
  return C;
}

function transpose(A) {
  const [m, n] = A.shape;
  const B = zeros(n, m);
  for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) B.values[j * m + i] = A.values[i * n + j];
  return B;
}

// Apply a function to every value of an object; keep the keys.
function by_name(object, f) {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, f(value, name)]));
}

// Split the arrays of a state by layer.
function split_by_layer(state, options) {
  const [length, size] = [options.num_layers, state.length / options.num_layers];
  return Array.from({ length }, (_, n) => state.slice(n * size, (n + 1) * size));
}

// Return a layer's parameters under the first layer's names; `layer` is an index from 0.
function select_layer(params, layer) {
  if (layer === 0) return params;
  const suffix = `_${layer + 1}`;
  const entries = Object.entries(params).filter(([name]) => name.endsWith(suffix));
  return Object.fromEntries(entries.map(([name, x]) => [name.slice(0, -suffix.length), x]));
}
