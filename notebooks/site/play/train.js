// The view and the controls of a training run, which a worker thread executes.
"use strict";
(() => {
  const find = (name) => document.getElementById(`train-${name}`);
  const { elements } = find("settings"), weight = find("weight").elements;
  const [LEFT, TOP, RIGHT, BOTTOM] = [40, 10, 590, 190]; // edges of the plot, in pixels
  const MAX_LOSS = Math.log(1000); // larger losses are drawn at this height
  const perplexity = ({ loss }) => Math.exp(loss).toFixed(2);
  let worker, settings, epochs, preview, changes, is_running;

  // Return the settings that the visitor chose; throw an Error for an invalid number.
  function read_settings() {
    const is_own_text = elements.text.value === "own";
    const clips = elements.theta.value.trim() !== "none";
    return {
      ...FIXED,
      corpus: is_own_text ? null : CORPUS,
      cell: elements.cell.value,
      num_hiddens: Number(elements.num_hiddens.value),
      num_epochs: Number(elements.num_epochs.value),
      optimizer: elements.optimizer.value,
      lr: read_number(elements.lr, "The learning rate"),
      theta: clips ? read_number(elements.theta, "Clipping θ") : null,
      sampling: elements.sampling.value,
      normalize: is_own_text && find("all").checked ? "none" : "chapter",
      exact: elements.exact.checked,
      seed: read_seed(elements.seed),
    };
  }

  function read_seed({ value }) {
    const seed = Number(value);
    if (value.trim() && Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32) return seed;
    throw Error(`The random seed is “${value.slice(0, 50)}”; it must be an integer from 0 to `
      + `${2 ** 32 - 1}.`);
  }

  function read_number({ value }, name) {
    const number = Number(value);
    if (value.trim() && number > 0 && Number.isFinite(number)) return number;
    throw Error(`${name} is “${value.slice(0, 50)}”; it must be a number above 0.`);
  }

  // Call a function; if it throws an Error, show the message to the visitor.
  function show_error(action) {
    find("problem").textContent = "";
    try {
      action();
    } catch (error) {
      find("problem").textContent = error.message;
    }
  }

  function begin() {
    settings = read_settings();
    worker?.terminate();
    // A local page may not load scripts into a worker, so `data.js` contains the scripts' source.
    const address = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
    worker = new Worker(address);
    URL.revokeObjectURL(address);
    worker.onmessage = ({ data }) => {
      for (const kind in data) HANDLERS[kind](data[kind]);
    };
    [epochs, preview, changes] = [[], null, []];
    find("shown").hidden = find("exact").hidden = true;
    find("samples").replaceChildren();
    const { value: prefix, defaultValue: default_prefix } = elements.prefix;
    const text = settings.corpus ? STORY : find("text").value;
    URL.revokeObjectURL(find("file").href);
    if (!settings.corpus) find("file").href = URL.createObjectURL(new Blob([text]));
    const inputs = { settings, text, prefix, default_prefix };
    worker.postMessage({ request: "begin", ...inputs, name: "W_hq" });
    set_running(true);
  }

  function set_running(value) {
    is_running = value;
    find("stop").disabled = !is_running && epochs.length >= settings.num_epochs;
    find("stop").textContent = is_running ? "Stop" : "Go on";
  }

  function stop_or_go_on() {
    worker.postMessage({ request: is_running ? "stop" : "go" });
    set_running(!is_running);
  }

  // Handlers for messages from the worker, keyed by kind.
  const HANDLERS = {
    start({ names }) {
      weight.name.replaceChildren(...Object.keys(names).map((name) => new Option(name)));
      weight.name.value = "W_hq";
      find("shown").hidden = false;
      draw_curve();
    },
    preview(message) {
      preview = message;
      const { epoch, index, total, norm, theta, state } = preview;
      if (epoch <= settings.num_epochs) {
        const position = `Epoch ${epoch} of ${settings.num_epochs}`;
        find("status").textContent = `${position}, minibatch ${index} of ${total}`;
      }
      const clipped = theta !== null && norm > theta ? `, clipped to ${theta}` : "";
      find("norm").textContent = `norm over all parameters: ${norm.toPrecision(3)}${clipped}`;
      const size = state[0].length;
      const values = Float64Array.from(state.flatMap((tensor) => [...tensor]));
      draw(find("state"), [state.length * size / 16, 16], values, `The state, ${size} units`);
      draw_parameter();
    },
    epoch(result) {
      epochs.push(result);
      const item = document.createElement("li");
      const label = `epoch ${result.epoch}, perplexity ${perplexity(result)}: `;
      const sample = Object.assign(document.createElement("q"), { textContent: result.sample });
      item.append(label, sample);
      find("samples").prepend(item);
      draw_curve();
      if (result.digest) show_digest(result);
    },
    end() {
      set_running(false);
      find("status").textContent = `Trained for ${epochs.length} epochs.`;
    },
    error(message) {
      set_running(false);
      find("stop").disabled = true;
      find("problem").textContent = message;
      find("status").textContent = "";
    },
  };

  function show_digest({ epoch, digest }) {
    const { cell, num_hiddens, optimizer, sampling, lr, theta, seed, corpus } = settings;
    const is_default_lr = lr === LEARNING_RATES[optimizer];
    const is_recorded = corpus && is_default_lr && theta === DEFAULTS.theta && seed === DEFAULTS.seed;
    const name = [cell, num_hiddens, optimizer, sampling].join(" ");
    const recorded = RECORDED.digests[name][epoch - 1]; // undefined after the last recorded epoch
    find("exact").hidden = false;
    find("epoch").textContent = epoch;
    find("digest").textContent = digest;
    const verdict = recorded === digest ? "equal bit for bit" : "different";
    find("recorded").textContent = is_recorded && recorded && !changes.length
      ? `NumPy's, in the project's records: ${recorded}, ${verdict}.` : "";
    find("same").textContent = changes.length
      ? `No command trains this network: you have changed ${[...new Set(changes)].join(" and ")}.`
      : "This command trains the same network and prints its digest:";
    find("command").textContent = command(settings, epoch);
    find("command").parentElement.hidden = changes.length > 0;
    find("file").parentElement.hidden = changes.length > 0 || corpus !== null;
  }

  function draw_curve() {
    const values = epochs.map(({ loss }) => Math.min(loss, MAX_LOSS));
    const [low, high] = [0, Math.max(Math.log(30), ...values)];
    const x = (n) => LEFT + ((RIGHT - LEFT) * (n + 1)) / settings.num_epochs;
    const y = (value) => BOTTOM - ((BOTTOM - TOP) * (value - low)) / (high - low);
    const points = values.map((value, n) => `${x(n).toFixed(1)},${y(value).toFixed(1)}`);
    find("curve").querySelector("polyline").setAttribute("points", points.join(" "));
    const limits = [high, low].map((value) => Math.exp(value).toFixed(0));
    find("curve").querySelectorAll("text").forEach((element, n) =>
      (element.textContent = [...limits, `epoch ${settings.num_epochs}`][n]));
    const last = epochs.map(perplexity).slice(-5).join(", ");
    const label = `Perplexity of the last epochs: ${last || "none yet"}`;
    find("curve").setAttribute("aria-label", label);
  }

  function draw_parameter() {
    const { name, value, gradient } = preview;
    const shape = value.shape.length > 1 ? value.shape : [1, value.shape[0]];
    draw(find("value"), shape, value.values, `Values of ${name}`);
    draw(find("gradient"), shape, gradient.values, `Gradient of ${name}`);
    if (document.activeElement !== weight.value) show_value();
  }

  // Draw a matrix with a pixel for each number; the style sheet enlarges the picture.
  function draw(canvas, [rows, columns], values, label) {
    Object.assign(canvas, { width: columns, height: rows });
    canvas.setAttribute("aria-label", label);
    const style = getComputedStyle(find("train"));
    const [plus, minus] = ["--plus", "--minus"].map((name) =>
      style.getPropertyValue(name).trim().split(" ").map(Number));
    const maximum = values.reduce((max, value) => Math.max(max, Math.abs(value)), Number.MIN_VALUE);
    const image = new ImageData(columns, rows);
    values.forEach((value, n) => {
      image.data.set([...(value < 0 ? minus : plus), 255 * Math.abs(value / maximum)], 4 * n);
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // Return the row and the column of the selected weight; throw an Error if they are invalid.
  function read_index() {
    const { name, value: { shape } } = preview;
    const fields = shape.length > 1 ? [weight.row, weight.column] : [weight.column];
    const index = fields.map((field) => Number(field.value));
    if (index.every((i, n) => Number.isInteger(i) && i >= 0 && i < shape[n])) return index;
    throw Error(`${name} has the shape (${shape.join(", ")}), and rows are counted from 0.`);
  }

  function show_value() {
    const { shape, values } = preview.value;
    weight.row.disabled = shape.length === 1;
    show_error(() => {
      const [first, second = 0] = read_index();
      weight.value.value = values[first * (shape[1] ?? 1) + second].toPrecision(6);
    });
  }

  function change_weight() {
    const value = Number(weight.value.value);
    if (!weight.value.value.trim() || !Number.isFinite(value)) {
      throw Error(`The value is “${weight.value.value.slice(0, 50)}”; it must be a number.`);
    }
    worker.postMessage({ request: "change_weight", name: preview.name, index: read_index(), value });
    changes.push("a weight");
  }

  function select({ currentTarget: canvas, offsetX, offsetY }) {
    weight.row.value = Math.floor((offsetY / canvas.clientHeight) * canvas.height);
    weight.column.value = Math.floor((offsetX / canvas.clientWidth) * canvas.width);
    show_value();
  }

  find("begin").onclick = () => show_error(begin);
  find("stop").onclick = stop_or_go_on;
  find("settings").onsubmit = (event) => event.preventDefault();
  for (const radio of elements.text) {
    radio.onchange = () => (find("own").hidden = elements.text.value !== "own");
  }
  elements.optimizer.onchange = () => {
    elements.lr.value = LEARNING_RATES[elements.optimizer.value];
  };
  elements.lr.onchange = () => show_error(() => {
    const lr = read_number(elements.lr, "The learning rate");
    if (!worker || lr === settings.lr) return;
    settings.lr = lr;
    worker.postMessage({ request: "change_rate", lr });
    changes.push("the learning rate");
  });
  weight.name.onchange = () => worker.postMessage({ request: "show", name: weight.name.value });
  weight.row.oninput = weight.column.oninput = () => preview && show_value();
  find("weight").onsubmit = (event) => {
    event.preventDefault();
    show_error(change_weight);
  };
  for (const name of ["value", "gradient"]) find(name).onclick = select;
  find("script").hidden = true;
  find("train").hidden = false;
})();
