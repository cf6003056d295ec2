// The random numbers of the core, which are NumPy's: `RandomState`, whose streams never change. It
// is a Mersenne Twister (Matsumoto and Nishimura, 1998) and, for normal numbers, Marsaglia's polar
// method.
"use strict";

const PURPOSES = { initial: 1, offset: 2, shuffle: 3, dropout: 6 }; // those of randomness.py

// The generator of a purpose in an epoch, or in one of its minibatches: 32 random bits at a time.
function generator(seed, purpose, epoch = 0, ...minibatch) {
  const [N, M] = [624, 397], x = new Uint32Array(N);
  const mix = (n, factor) => Math.imul(x[n - 1] ^ (x[n - 1] >>> 30), factor);
  const key = [seed, PURPOSES[purpose], epoch, ...minibatch];
  x[0] = 19650218;
  for (let n = 1; n < N; n++) x[n] = mix(n, 1812433253) + n;
  let n = 1;
  const follow = () => {
    if (++n < N) return;
    x[0] = x[N - 1];
    n = 1;
  };
  for (let k = 0; k < N; k++, follow()) {
    x[n] = (x[n] ^ mix(n, 1664525)) + key[k % key.length] + (k % key.length);
  }
  for (let k = 1; k < N; k++, follow()) x[n] = (x[n] ^ mix(n, 1566083941)) - n;
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

// A number from 0 to below 1, of 53 random bits.
function uniform(bits) {
  const [high, low] = [bits() >>> 5, bits() >>> 6];
  return (high * 2 ** 26 + low) / 2 ** 53;
}

// A whole number from 0 to `most`: of as many bits as that has, until one is not larger.
function whole(bits, most) {
  const length = 32 - Math.clz32(most);
  for (;;) {
    const value = length && bits() & (2 ** length - 1);
    if (value <= most) return value;
  }
}

function permutation(bits, length) {
  const order = [...Array(length).keys()];
  for (let n = length - 1; n > 0; n--) {
    const other = whole(bits, n);
    [order[n], order[other]] = [order[other], order[n]];
  }
  return order;
}

// A function that draws normal numbers of variance 1, two from each point of the unit disc. `log`
// is of a number and of which of the points, from 0.
function normals(bits, log = Math.log) {
  let [point, second] = [0, null];
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
    const factor = Math.sqrt((-2 * log(square, point)) / square);
    point += 1;
    second = factor * x;
    return factor * y;
  };
}

// The logarithm of the C library that NumPy uses on Linux, to the last bit, of the points of one
// generator: the nearest number, except where it is near the middle of two. `exceptions` has the
// points where the other one is taken: how many points further than the one before each is, with a
// minus if the other one is the smaller.
function c_library(exceptions) {
  const steps = new Map();
  exceptions.reduce((point, each) => {
    steps.set(point + Math.abs(each), Math.sign(each));
    return point + Math.abs(each);
  }, 0);
  return (x, point) => nudged(nearest_log(x), steps.get(point) ?? 0);
}

// The number that is nearest to the natural logarithm of x, below 1 and not very small: `Math.log`
// and its error, computed in whole multiples of 2**-128.
function nearest_log(x) {
  const [BITS, ONE] = [128n, 1n << 128n];
  const fixed = (each) => BigInt(each * 2 ** 128);
  const guess = fixed(Math.log(x));
  let [term, power] = [ONE, ONE]; // of the series of exp(-guess / 256)
  for (let n = 1n; term !== 0n; n++) {
    term = (-guess * term) / (n << (BITS + 8n));
    power += term;
  }
  for (let n = 0; n < 8; n++) power = (power * power) >> BITS;
  const error = ((fixed(x) * power) >> BITS) - ONE; // x / exp(guess) - 1
  return Number(guess + error - ((error * error) >> (BITS + 1n))) / 2 ** 128;
}

// The number so many steps of the last bit away.
function nudged(x, steps) {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  view.setBigInt64(0, view.getBigInt64(0) + BigInt(Math.sign(x) * steps));
  return view.getFloat64(0);
}

// 16 random bits for each, of which two are drawn at a time.
function sixteens(bits, length) {
  let pair;
  return Array.from({ length }, (_, n) => (pair = n % 2 ? pair >>> 16 : bits()) & 0xffff);
}
