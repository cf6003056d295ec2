// Random numbers as in the core, from the algorithms of NumPy's `RandomState`, which never change:
// a Mersenne Twister (Matsumoto and Nishimura, 1998) and, for normally distributed numbers,
// Marsaglia's polar method.
"use strict";

const PURPOSES = { initial: 1, offset: 2, shuffle: 3, dropout: 6 }; // PURPOSES of randomness.py

// Return a function that draws 32 random bits, for a purpose in an epoch or a minibatch.
function generator(seed, purpose, epoch = 0, ...minibatch) {
  const [N, M] = [624, 397], x = new Uint32Array(N);
  const mix = (n, factor) => Math.imul(x[n - 1] ^ (x[n - 1] >>> 30), factor);
  const key = [seed, PURPOSES[purpose], epoch, ...minibatch];
  x[0] = 19650218;
  for (let n = 1; n < N; n++) x[n] = mix(n, 1812433253) + n;
  let n = 1;
  const advance_index = () => {
    if (++n < N) return;
    x[0] = x[N - 1];
    n = 1;
  };
  for (let k = 0; k < N; k++, advance_index()) {
    x[n] = (x[n] ^ mix(n, 1664525)) + key[k % key.length] + (k % key.length);
  }
  for (let k = 1; k < N; k++, advance_index()) x[n] = (x[n] ^ mix(n, 1566083941)) - n;
  x[0] = 2 ** 31;
  let next = N;
  return () => {
    if (next === N) {
      for (let k = 0; k < N; k++) {
        const y = (x[k] & 0x80000000) | (x[(k + 1) % N] & 0x7fffffff);
        x[k] = x[(k + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let y = x[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

// Draw a number in [0, 1) from 53 random bits.
function uniform(bits) {
  const [high, low] = [bits() >>> 5, bits() >>> 6];
  return (high * 2 ** 26 + low) / 2 ** 53;
}

// Draw an integer from 0 to `max`: draw numbers of the same bit length until one is small enough.
function integer(bits, max) {
  const length = 32 - Math.clz32(max);
  for (;;) {
    const value = length && bits() & (2 ** length - 1);
    if (value <= max) return value;
  }
}

function permutation(bits, length) {
  const order = [...Array(length).keys()];
  for (let n = length - 1; n > 0; n--) {
    const other = integer(bits, n);
    [order[n], order[other]] = [order[other], order[n]];
  }
  return order;
}

// Return a function that draws standard normal numbers, two from each point in the unit disk.
function normals(bits) {
  let second = null;
  return () => {
    let x, y, square;
    if (second !== null) {
      [x, second] = [second, null];
      return x;
    }
    do {
      [x, y] = [2 * uniform(bits) - 1, 2 * uniform(bits) - 1];
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const factor = Math.sqrt((-2 * Math.log(square)) / square);
    second = factor * x;
    return factor * y;
  };
}

// Draw 16 random bits for each element; each draw of 32 bits provides two elements.
function sixteens(bits, length) {
  let pair;
  return Array.from({ length }, (_, n) => (pair = n % 2 ? pair >>> 16 : bits()) & 0xffff);
}
