// The display and controls of the memory lab, for the networks in `networks.js`.
"use strict";
(() => {
  const find = (name) => document.getElementById(`lab-${name}`);
  const lab = find("lab"), { elements } = find("controls");
  const LETTERS = "ABCDefghijkl?"; // symbols, fillers and the query
  const COLORS = { plus: [230, 115, 20], minus: [30, 110, 220], gate: [0, 150, 136] };
  const [TOP, BOTTOM] = [1.5, -13]; // the curve's range: powers of ten
  const FAINTEST = -8; // smaller gradients, relative to the query's, have no color
  const FIRST = 5; // a sequence whose symbol, B, the networks that guess get wrong
  const SECONDS = 3; // duration of each pass that "Play" shows
  const NAMES = {
    f: "Forget gate f", i: "Input gate i", o: "Output gate o", z: "Update gate z", r: "Reset gate r",
    slope: "Slope of tanh, 1 − h²",
  };
  const HINT = "Look first at the left end of the orange curve: how much of the answer's gradient "
    + "arrives at the symbol? The dashed curve shows what training changed.";
  // Examples: a network, whether its weights are the initial ones, and what to look at.
  const EXAMPLES = [
    ["LSTM, bias 3, 100 fillers: remembers", "lstm 3 100", false,
      "Look first at the left end of the orange curve: it is the part of the answer's gradient that "
      + "arrives at the symbol. In many units, the forget gate stays open for 100 steps, and the "
      + "cell state C keeps its color until the query."],
    ["RNN, 100 fillers: gradient vanishes", "rnn 0 100", false,
      "The orange curve leaves the plot: at each step back, the gradient becomes smaller, and nothing "
      + "arrives at the symbol. So training cannot learn to store it, and the network guesses. Before "
      + "training (dashed), a little arrived."],
    ["LSTM, bias 0: forgets from the start", "lstm 0 30", true,
      "Before training, a forget gate with a bias of 0 is half open. Even with the way through H, "
      + "only about 0.7 of the gradient is left after each step, and 0.7 to the power of 31 is almost "
      + "nothing: a straight line on this scale."],
    ["LSTM, bias 5: open from the start", "lstm 5 100", true,
      "Before training, a bias of 5 keeps 99% of the cell state at each step, and a large part of the "
      + "gradient arrives at the symbol. But the input gate is half open: fillers add up in C."],
    ["GRU, 100 fillers: ignores the fillers", "gru 0 100", false,
      "In some units, the update gate z is close to 1 while fillers are read, so the gradient hardly "
      + "falls. The GRU is an exception: before training (dashed), almost nothing arrived, and it "
      + "learned nevertheless."],
    ["RNN with attention: a shortcut", "rnn 0 100 attention", false,
      "The answer reads the first outputs, as the attention weights show, and its gradient reaches "
      + "them in one step, without a product of factors. In between, where it does not read, hardly "
      + "any gradient arrives."],
  ];
  let number = FIRST; // of the sequence
  let step_number = 1, unit = 0, shown, other, network, timer;

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // Format a number with two digits, as a power of ten if it is small.
  function format(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size >= 0.01 && size < 1000 ? value.toPrecision(2) : value.toExponential(0);
    const digits = { "-": "⁻", "+": "" };
    for (let n = 0; n < 10; n++) digits[n] = "⁰¹²³⁴⁵⁶⁷⁸⁹"[n];
    const [factor, power] = text.replace("-", "−").split("e");
    if (power === undefined) return factor;
    return `${factor}·10${[...power.replace("−", "-")].map((digit) => digits[digit]).join("")}`;
  }

  const percent = (share) => `${(100 * share).toFixed(share > 0.99 && share < 0.9995 ? 1 : 0)}%`;
  const norm = (tensors) => Math.hypot(...tensors.map(({ values }) => Math.hypot(...values)));

  // Return the norms of the gradients w.r.t. the state after each token, relative to the last.
  function reach({ d_states }) {
    const norms = d_states.slice(1).map(norm);
    return norms.map((value) => value / norms.at(-1));
  }

  function describe_part(share) {
    return share >= 0.01 ? percent(share) : format(share);
  }

  // Return the network with its initial weights; training with a forget bias starts from it.
  function initial({ options, forget_bias, attention }) {
    const model = load(NETWORKS[options.cell]);
    if (options.cell === "lstm") model.params.b_f = map((b) => b + forget_bias, model.params.b_f);
    return { ...model, attention };
  }

  // Display

  // Return a figure with a row for each unit; `values` has an array of units for each step, and
  // `color` returns a value's color and opacity.
  function panel(title, values, color, read, kind) {
    const rows = values[0].length, canvas = make("canvas", { width: values.length, height: rows });
    const context = canvas.getContext("2d"), image = context.createImageData(values.length, rows);
    values.forEach((column, t) => column.forEach((value, row) => {
      const [name, strength] = color(value);
      const pixel = [...COLORS[name], 255 * Math.min(strength, 1)];
      image.data.set(pixel, 4 * (row * values.length + t));
    }));
    context.putImageData(image, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${title}: a row for each unit, a column for each step`);
    const plot = make("div", { className: "plot" }, canvas);
    if (rows > 1) plot.classList.add("units");
    else canvas.className = "row";
    const output = make("output");
    const figure = make("figure", { className: kind }, make("figcaption", {}, title, output), plot);
    figure.show = () => (output.textContent = read(values[step_number - 1][rows > 1 ? unit : 0]));
    return figure;
  }

  const signed = (value) => [value < 0 ? "minus" : "plus", Math.abs(value)];

  function draw_panels() {
    const tensors = shown.states[0].map((_, n) => n), name = (n) => "HC"[n];
    const { options } = network, column = (rows, n) => rows.slice(1).map((row) => row[n].values);
    const gates = Object.keys(shown.gates[0]).map((key) => panel(
      NAMES[key], shown.gates.map((all) => all[key].values), (value) => ["gate", value],
      (value) => value.toFixed(2), key === "slope" ? "forward wide" : "forward"));
    const states = tensors.map((n) => panel(
      n ? "Cell state C, colors of tanh(C)" : "Hidden state H", column(shown.states, n),
      (value) => signed(n ? Math.tanh(value) : value), format, "forward"));
    const largest = norm(shown.d_states.at(-1));
    const strength = (value) => 1 - Math.log10(Math.abs(value) / largest) / FAINTEST;
    const gradients = tensors.map((n) => panel(
      `Gradient ∂loss/∂${name(n)}, logarithmic colors`, column(shown.d_states, n),
      (value) => [signed(value)[0], Math.max(0, strength(value))], format, "backward"));
    const weights = shown.weights ? [panel(
      "Attention weights", [...shown.weights, 0].map((weight) => [weight]),
      (value) => ["gate", Math.sqrt(value)], describe_part, "forward wide")] : [];
    find("gates").replaceChildren(...weights, ...gates);
    // Each state is followed by its gradient; the LSTM's memory, C, comes first.
    const pairs = states.map((figure, n) => [figure, gradients[n]]);
    find("states").replaceChildren(...pairs.reverse().flat());
    lab.style.setProperty("--steps", shown.tokens.length);
    lab.style.setProperty("--units", options.num_hiddens);
  }

  const height = (share) => (100 * (TOP - Math.log10(Math.max(share, 1e-99)))) / (TOP - BOTTOM);

  function draw_curve() {
    const line = (shares) => shares.map((share, t) =>
      `${t ? "L" : "M"}${(100 * (t + 0.5)) / shares.length} ${height(share)}`).join("");
    const svg = find("curve").querySelector("svg");
    svg.querySelector(".shown").setAttribute("d", line(reach(shown)));
    svg.querySelector(".other").setAttribute("d", line(reach(other)));
    const part = describe_part(reach(shown)[0]);
    svg.setAttribute("aria-label", `Gradient by step: ${part} of the query's arrives at the symbol`);
    const { tokens } = shown;
    find("tokens").replaceChildren(
      ...tokens.map((token) => make("i", { textContent: LETTERS[token] })));
    find("tokens").classList.toggle("dense", tokens.length > 40);
  }

  // Move to a step and unit; both stay in range.
  function select(step, index = unit) {
    const { tokens } = shown, { num_hiddens } = network.options;
    step_number = Math.min(Math.max(step, 1), tokens.length);
    unit = Math.min(Math.max(index, 0), num_hiddens - 1);
    lab.style.setProperty("--from", (step_number - 1) / tokens.length);
    lab.style.setProperty("--to", step_number / tokens.length);
    lab.style.setProperty("--unit", unit / num_hiddens);
    const token = tokens[step_number - 1];
    const kind = token < 4 ? "symbol " : token < QUERY ? "filler " : "query ";
    const place = `${step_number} of ${tokens.length}: ${kind}${LETTERS[token]}`;
    find("where").textContent = place;
    find("which").textContent = `${unit} (0 to ${num_hiddens - 1})`;
    Object.assign(find("step"), { max: tokens.length, value: step_number });
    find("step").setAttribute("aria-valuetext", place);
    Object.assign(find("unit"), { max: num_hiddens - 1, value: unit });
    const part = describe_part(reach(shown)[step_number - 1]);
    find("gradient").textContent = `${part} at step ${step_number}`;
    for (const figure of lab.querySelectorAll(".panels figure")) figure.show();
  }

  // Compute and show the chosen network; select the symbol, and the unit with its largest gradient.
  function show() {
    stop();
    const choice = elements.network.value + (elements.attention.checked ? " attention" : "");
    network = load(NETWORKS[choice]);
    const tokens = draw_tokens(network.num_fillers, number);
    const is_trained = elements.weights.value === "trained";
    const traces = [trace(tokens, network), trace(tokens, initial(network))];
    [shown, other] = is_trained ? traces : traces.reverse();
    draw_panels();
    draw_curve();
    find("legend").textContent = `Dashed: ${is_trained ? "before" : "after"} training.`;
    const sizes = shown.d_states[1].at(-1).values.map(Math.abs);
    select(1, sizes.indexOf(Math.max(...sizes)));
    const best = shown.shares.indexOf(Math.max(...shown.shares));
    const [answer, symbol] = [LETTERS[best], LETTERS[tokens[0]]];
    const verdict = `This sequence begins with ${symbol}. The network answers ${answer} `
      + `(${percent(shown.shares[best])}), which is ${answer === symbol ? "right" : "wrong"}; `
      + `${describe_part(reach(shown)[0])} of the query's gradient arrives at the symbol.`;
    const [first, ...others] = network.updates.map((count, n) =>
      `${percent(network.accuracy[n])} after ${count.toLocaleString("en")} updates`);
    find("training").textContent = `${verdict} Correct answers to new sequences: ${first}; with `
      + `other initial weights, ${others.join(" and ")}.`;
    const example = EXAMPLES.findIndex(([, name, is_initial]) =>
      name === choice && is_initial !== is_trained);
    [...find("examples").children].forEach((button, n) =>
      button.setAttribute("aria-pressed", n === example));
    find("look").textContent = example < 0 ? HINT : EXAMPLES[example][3];
    for (const input of elements.network) update_choice(input);
  }

  // Controls

  function update_choice(input) {
    const name = input.value + (elements.attention.checked ? " attention" : "");
    const { accuracy } = NETWORKS[name], [first] = accuracy, span = input.nextSibling;
    const dots = accuracy.map((share) => (share >= 0.99 ? "●" : "○")).join("");
    span.style.setProperty("--share", Math.max(0, (first - 0.25) / 0.75));
    span.replaceChildren(percent(first), make("small", { textContent: dots }));
    input.setAttribute("aria-label", `${input.title}: ${percent(first)} correct`);
  }

  function draw_choices() {
    const networks = Object.entries(NETWORKS).filter(([, each]) => each.attention === false);
    const distances = [...new Set(networks.map(([, { num_fillers }]) => num_fillers))];
    const [head, body] = find("controls").querySelectorAll("thead tr, tbody");
    head.append(...distances.map((n) => make("th", { scope: "col", textContent: n })));
    const rows = new Map();
    for (const [value, { options, forget_bias, num_fillers }] of networks) {
      const bias = options.cell === "lstm" ? `, bias ${forget_bias}` : "";
      const label = options.cell.toUpperCase() + bias;
      if (!rows.has(label)) rows.set(label, [make("th", { scope: "row", textContent: label })]);
      const title = `${label}, ${num_fillers} fillers`;
      const input = make("input", { type: "radio", name: "network", value, title });
      rows.get(label).push(make("td", {}, make("label", {}, input, make("span"))));
    }
    body.append(...[...rows.values()].map((cells) => make("tr", {}, ...cells)));
  }

  function use_example([, name, is_initial]) {
    elements.network.value = name.replace(" attention", "");
    elements.attention.checked = name.endsWith(" attention");
    elements.weights.value = is_initial ? "initial" : "trained";
    show();
  }

  // Select the step and unit at the pointer's position in a plot.
  function point(event) {
    const plot = event.target.closest(".plot");
    if (!plot || !(event.buttons & 1)) return;
    stop();
    const { left, top, width, height } = plot.getBoundingClientRect();
    const step = 1 + Math.floor(((event.clientX - left) / width) * shown.tokens.length);
    const row = Math.floor(((event.clientY - top) / height) * network.options.num_hiddens);
    select(step, plot.matches(".units") ? row : unit);
  }

  function stop() {
    clearInterval(timer);
    timer = undefined;
    delete lab.dataset.pass;
    find("play").textContent = "Play";
  }

  // Show the forward pass from the symbol to the query, and then the gradient on its way back.
  function play() {
    if (timer) return stop();
    find("play").textContent = "Stop";
    lab.dataset.pass = "forward";
    select(1);
    timer = setInterval(() => {
      if (lab.dataset.pass === "forward" && step_number === shown.tokens.length) {
        lab.dataset.pass = "backward";
      } else if (lab.dataset.pass === "forward") {
        select(step_number + 1);
      } else if (step_number > 1) {
        select(step_number - 1);
      } else {
        stop();
      }
    }, (1000 * SECONDS) / shown.tokens.length);
  }

  function move(step, index = unit) {
    stop();
    select(step, index);
  }

  draw_choices();
  let lines = "";
  for (let power = 0; power > BOTTOM; power -= 3) {
    lines += `M0 ${height(10 ** power)}H100`;
    const textContent = power ? format(10 ** power).replace("1·", "") : "1";
    const tick = make("b", { className: "tick", textContent });
    tick.style.top = `calc(1.4rem + ${height(10 ** power) / 100} * (100% - 1.4rem))`;
    find("curve").append(tick);
  }
  find("curve").querySelector(".lines").setAttribute("d", lines);
  find("examples").append(...EXAMPLES.map((example) => make(
    "button", { type: "button", textContent: example[0], onclick: () => use_example(example) })));
  find("controls").oninput = show;
  find("controls").onsubmit = (event) => event.preventDefault();
  find("new").onclick = () => {
    number++;
    show();
  };
  find("step").oninput = (event) => move(Number(event.target.value));
  find("unit").oninput = (event) => move(step_number, Number(event.target.value));
  find("back").onclick = () => move(step_number - 1);
  find("forth").onclick = () => move(step_number + 1);
  find("play").onclick = play;
  find("play").hidden = matchMedia("(prefers-reduced-motion: reduce)").matches;
  lab.onpointerdown = lab.onpointermove = point;
  find("script").hidden = true;
  lab.hidden = false;
  use_example(EXAMPLES[0]);
})();
