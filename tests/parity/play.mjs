// Answer the test vectors with the scripts of the playground: node play.mjs FOLDER VECTORS ANSWERS.
// Its network has no dropout, so the vectors with masks are left out.
import { readFileSync, writeFileSync } from "node:fs";
import { runInThisContext } from "node:vm";

const [folder, vectors, output] = process.argv.slice(2);
// The pages load these scripts one after another, into one global scope.
for (const name of ["arrays.js", "scratch.js", "network.js"])
  runInThisContext(readFileSync(`${folder}/${name}`, "utf8"), name);

// An array of the scripts has a shape and row-major values; the vectors contain nested lists.
function to_array(lists) {
  const shape = [];
  for (let part = lists; Array.isArray(part); part = part[0]) shape.push(part.length);
  return { shape, values: Float64Array.from([lists].flat(Infinity)) };
}

function to_lists({ shape: [n, width], values }) {
  if (width === undefined) return [...values];
  return Array.from({ length: n }, (_, i) => [...values.slice(i * width, (i + 1) * width)]);
}

function name_states(state) {
  return Object.fromEntries(state.map((array, n) => ["hc"[n], to_lists(array)]));
}

const FUNCTIONS = {
  encode: ({ tokens }, { params }) => ({ x: tokens.map((row) => to_lists(encode(row, params))) }),
  cell: ({ x }, { params, options }, state) =>
    name_states(CELLS[options.cell](to_array(x), state, params, options)),
  step({ x }, { params, options }, state) {
    const [logits, next] = step(to_array(x), state, params, options);
    return { logits: to_lists(logits), ...name_states(next) };
  },
  forward({ tokens }, { params, options }, state) {
    const rows = []; // (T * B, V)
    for (let t = 0; t < tokens[0].length; t++) {
      const x = encode(tokens.map((row) => row[t]), params);
      const [logits, next] = step(x, state, params, options);
      rows.push(...to_lists(logits));
      state = next;
    }
    return { logits: rows, ...name_states(state) };
  },
  predict({ prefix, num_preds }, model) {
    const tokens = [...prefix], rows = [];
    let steps = read(prefix, model);
    for (let n = 0; n < num_preds; n++) {
      rows.push([...steps.at(-1).logits]);
      tokens.push(greedy(steps.at(-1).logits));
      steps = read(tokens.slice(-1), model, steps);
    }
    return { tokens, logits: rows };
  },
};

const answers = {};
for (const { cell, sizes, inputs, tests } of JSON.parse(readFileSync(vectors, "utf8")).groups) {
  const num_states = sizes.L * (cell === "lstm" ? 2 : 1);
  const options = { cell, num_hiddens: sizes.H, num_layers: sizes.L, num_states };
  const is_parameter = ([name]) => /^[Wb]_/.test(name);
  const entries = Object.entries(inputs).filter(is_parameter);
  const params = Object.fromEntries(entries.map(([name, lists]) => [name, to_array(lists)]));
  for (const test of tests.filter((test) => test.function in FUNCTIONS)) {
    const values = { ...inputs, ...test.inputs };
    if (values.masks && test.function !== "predict") continue;
    const state = ["h", "c"].filter((name) => values[name]).map((name) => to_array(values[name]));
    answers[test.id] = FUNCTIONS[test.function](values, { params, options }, state);
  }
}
writeFileSync(output, JSON.stringify({ answers }));
