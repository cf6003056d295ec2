// The display and controls of the page, for the networks in `weights.js`.
"use strict";
(() => {
  const models = Object.fromEntries(
    Object.entries(NETWORKS).map(([cell, saved]) => [cell, load(saved)]));
  const TENSORS = { lstm: ["H", "C"] }; // state tensors by cell; other cells have only H
  const MAX_BARS = 8;
  // Return the number of characters whose influence is shown: fewer for large, slow networks.
  const max_influences = ({ params }) => {
    const size = Object.values(params).reduce((sum, { values }) => sum + values.length, 0);
    return Math.max(10, Math.min(100, Math.floor(2e7 / size)));
  };
  const MAX_LENGTH = 2000; // maximum length in characters of automatically generated text
  const FIRST_LENGTH = 200; // length at which the text that the page writes once by itself ends
  const find = (name) => document.getElementById(`play-${name}`);
  const { prefix, temperature } = find("controls").elements;
  const passages = {}; // steps of the story's passage, by network
  const unit = { tensor: 0, index: 0 }; // the selected unit: indices of its tensor, and within the tensor
  let model, steps, prefix_length, timer;

  const selected_value = (group) => find("play").querySelector(`[name=${group}]:checked`).value;
  const get_temperature = () => Number(temperature.value);
  const last = () => steps[steps.length - 1];
  const NAMES = { " ": "space", "\n": "line", "<unk>": "other" };
  const name = (token) => NAMES[model.vocab[token]] ?? model.vocab[token];
  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`;
  const format_signed = (value) => value.toFixed(2).replace("-", "−");
  // Return the names of the state tensors of all layers.
  function names({ cell, num_layers }) {
    const layers = Array.from({ length: num_layers }, (_, n) => (n ? `_${n + 1}` : ""));
    return layers.flatMap((suffix) => (TENSORS[cell] ?? ["H"]).map((name) => name + suffix));
  }

  const is_bounded = (name) => name[0] === "H" && model.options.cell !== "rnn-relu";

  // Return the values of a state tensor, in [−1, 1]; apply tanh to unbounded values.
  function shades(state, tensor) {
    const { values } = state[tensor];
    return is_bounded(names(model.options)[tensor]) ? values : values.map(Math.tanh);
  }

  const shade = (state) => shades(state, unit.tensor)[unit.index];

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // Color an element by the sign of a value; the absolute value is the opacity.
  function paint(element, value) {
    element.dataset.sign = value < 0 ? "minus" : "plus";
    element.style.setProperty("--strength", Math.abs(value).toFixed(3));
  }

  function write(target, steps, values, num_underlined = 0) {
    target.replaceChildren(...steps.map((step, n) => {
      const span = make("span", { textContent: model.vocab[step.token] });
      if (n < num_underlined) span.className = "typed";
      paint(span, values[n]);
      return span;
    }));
  }

  // Return values to color the text by: a unit's, or influences on the most likely character.
  function colors() {
    const show_influences = selected_value("colors") === "influence" && steps.length > 0;
    find("influence").hidden = !show_influences;
    if (!show_influences) return steps.map((step) => shade(step.state));
    const token = greedy(last().logits);
    const values = influence(steps, token, max_influences(model), model);
    const max = Math.max(...values.map(Math.abs), Number.MIN_VALUE);
    find("token").textContent = name(token);
    find("characters").textContent = values.length;
    const zeros = Array(steps.length - values.length).fill(0);
    return [...zeros, ...values.map((value) => value / max)];
  }

  // Restart from the prefix with the selected network.
  function start() {
    stop();
    model = models[selected_value("network")];
    const [tokens, missing] = tokenize(prefix.value, model);
    prefix_length = tokens.length;
    steps = read(tokens, model);
    const list = missing.slice(0, 5).map((character) => `"${character}"`).join(", ");
    const kind = model.normalize === "none" ? "character" : "letter";
    const hint = `The network needs at least one ${kind} to start from.`;
    find("empty").textContent = (list ? `The training text does not contain ${list}. ` : "")
      + (prefix_length ? "" : hint);
    if (unit.tensor >= model.options.num_states) unit.tensor = 0;
    unit.index = Math.min(unit.index, model.options.num_hiddens - 1);
    draw_units();
    show_passage();
    show();
  }

  // Append `token`; by default, sample it or, at temperature 0, choose the most likely token.
  function go(token = get_temperature() ? sample(last().logits, get_temperature()) : greedy(last().logits)) {
    steps = read([token], model, steps);
    show();
    return token;
  }

  function advance(token) {
    stop();
    find("status").textContent = `Next character: ${name(go(token))}`;
  }

  function stop() {
    clearInterval(timer);
    timer = undefined;
    find("run").textContent = "Run";
  }

  function run(length = MAX_LENGTH) {
    find("run").textContent = "Stop";
    find("status").textContent = "";
    timer = setInterval(() => (steps.length < length ? go() : stop()), 100);
  }

  function show() {
    for (const button of ["step", "run", "back"]) find(button).disabled = !steps.length;
    find("ahead").hidden = !steps.length;
    find("degrees").textContent = get_temperature().toFixed(1);
    write(find("text"), steps, colors(), prefix_length);
    find("text").scrollTop = find("text").scrollHeight;
    if (steps.length) draw_bars(last().logits);
    update_units(steps.length ? last().state : state(1, model.options));
  }

  function draw_bars(logits) {
    const best = greedy(logits);
    const certain = logits.map((_, j) => Number(j === best));
    const shares = get_temperature() ? softmax(logits, get_temperature()) : certain;
    const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, MAX_BARS);
    [...find("next").children].forEach((item, n) => (item.hidden = n >= order.length));
    order.forEach((token, n) => {
      const button = find("next").children[n].firstChild;
      button.value = token;
      button.setAttribute("aria-label", `${name(token)}, ${percent(shares[token])}`);
      button.children[0].textContent = name(token);
      button.children[1].style.setProperty("--share", shares[token]);
      button.children[2].textContent = percent(shares[token]);
    });
    const rest = 1 - order.reduce((sum, token) => sum + shares[token], 0);
    const count = logits.length - order.length;
    find("others").textContent = count ? `The other ${count}: ${percent(Math.max(0, rest))}` : "";
  }

  // Draw a square per unit. The squares of a tensor form a single tab stop.
  function draw_units() {
    const tensors = names(model.options).map((name, tensor) => {
      const squares = Array.from({ length: model.options.num_hiddens }, (_, index) => {
        const square = make("button", { type: "button", onclick: () => select(tensor, index) });
        square.setAttribute("role", "radio");
        return square;
      });
      const grid = make("div", { className: "grid" }, ...squares);
      grid.setAttribute("role", "radiogroup");
      grid.setAttribute("aria-label", `Units of ${name}`);
      grid.onkeydown = (event) => move(event, tensor, squares);
      const kind = `${is_bounded(name) ? "" : "tanh of the "}${name[0] === "C" ? "cell" : "hidden"} state`;
      const layer = model.options.num_layers > 1 ? `, layer ${name.slice(2) || 1}` : "";
      return make("figure", {}, make("figcaption", { textContent: `${name}: ${kind}${layer}` }), grid);
    });
    find("state").replaceChildren(...tensors);
  }

  function update_units(state) {
    document.querySelectorAll("#play-state .grid").forEach((grid, tensor) => {
      const values = shades(state, tensor);
      const selected = tensor === unit.tensor ? unit.index : -1;
      [...grid.children].forEach((square, index) => {
        square.setAttribute("aria-checked", index === selected);
        square.setAttribute("aria-label", `Unit ${index}: ${format_signed(state[tensor].values[index])}`);
        square.tabIndex = index === Math.max(selected, 0) ? 0 : -1;
        paint(square, values[index]);
      });
    });
  }

  function select(tensor, index) {
    Object.assign(unit, { tensor, index });
    show_passage();
    show();
  }

  function move(event, tensor, squares) {
    const position = squares.indexOf(event.target), end = squares.length - 1;
    const grid = getComputedStyle(event.currentTarget);
    const row = grid.gridTemplateColumns.split(" ").length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row };
    const target = { Home: 0, End: end }[event.key] ?? position + steps[event.key];
    if (Number.isNaN(target)) return;
    event.preventDefault();
    const index = Math.min(Math.max(target, 0), end);
    select(tensor, index);
    squares[index].focus();
  }

  // Show the selected unit's values in a passage of the story, and their means by character.
  function show_passage() {
    find("unit").textContent = `unit ${unit.index} of ${names(model.options)[unit.tensor]}`;
    find("fires").hidden = !model.passage;
    if (!model.passage) return;
    const passage = passages[selected_value("network")] ??= read(tokenize(model.passage, model)[0], model);
    write(find("story"), passage, passage.map((step) => shade(step.state)));
    const values = new Map();
    for (const { token, state } of passage) {
      values.set(token, [...(values.get(token) ?? []), shade(state)]);
    }
    const mean = (all) => all.reduce((a, b) => a + b, 0) / all.length;
    const means = [...values].map(([token, all]) => [token, mean(all)]).sort((a, b) => b[1] - a[1]);
    find("means").replaceChildren(...means.map(([token, value]) => {
      const [bar, number] = [make("i"), make("span", { textContent: format_signed(value) })];
      paint(bar, value);
      return make("li", {}, make("b", { textContent: name(token) }), bar, number);
    }));
  }

  // Show the largest difference between these logits and NumPy's, stored in the site's weights.js.
  function compare() {
    if (!find("difference")) return;
    const differences = Object.values(models).flatMap((model) => {
      const steps = read(tokenize(model.expected.prefix, model)[0], model);
      return model.expected.logits.flatMap((row, t) =>
        row.map((value, j) => Math.abs(value - steps[t].logits[j])));
    });
    const [digit, power] = Math.max(...differences).toExponential(0).split("e-");
    const exponent = make("sup", { textContent: `−${power}` });
    find("difference").replaceChildren(`${digit} · 10`, exponent);
  }

  const unknown = Object.values(models).find(({ options }) => !(options.cell in CELLS));
  if (unknown) {
    find("script").textContent = `The page has no cell "${unknown.options.cell}": add one to `
      + "rnn_scratch/play/scratch.js, as in the backends.";
    return;
  }
  // Reuse the buttons for all steps, to keep the focus.
  for (let n = 0; n < MAX_BARS; n++) {
    const button = make("button", { type: "button" }, make("b"), make("i"), make("span"));
    button.onclick = () => advance(Number(button.value));
    find("next").append(make("li", {}, button));
  }
  const choices = Object.keys(models);
  for (const value of choices) {
    const radio = make("input", { type: "radio", name: "network", value });
    radio.checked = value === choices.at(-1);
    find("networks").append(make("label", {}, radio, ` ${value.toUpperCase()}`));
  }
  find("networks").hidden = choices.length < 2;
  const { expected, beginning } = models[choices.at(-1)];
  prefix.value = expected?.prefix ?? beginning;
  find("colors").oninput = show;
  find("controls").onsubmit = (event) => event.preventDefault();
  find("controls").oninput = (event) => (event.target === temperature ? show() : start());
  find("step").onclick = () => advance();
  find("run").onclick = () => (timer ? stop() : run());
  find("back").onclick = () => {
    start();
    find("status").textContent = "Back to the prefix";
  };
  find("script").hidden = true;
  find("play").hidden = false;
  start();
  compare();
  const is_still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (steps.length && !is_still) run(FIRST_LENGTH);
})();
