// The view and the controls of a training run, which a worker thread executes.
"use strict";
(() => {
  const find = (name) => document.getElementById(`train-${name}`);
  const { elements } = find("settings"), weight = find("weight").elements;
  const [LEFT, TOP, RIGHT, BOTTOM] = [40, 10, 590, 190]; // edges of the plot, in pixels
  const HIGHEST = Math.log(1000); // larger losses are drawn at this height
  const perplexity = ({ loss }) => Math.exp(loss).toFixed(2);
  let worker, settings, epochs, latest, changed, running;

  // Return the settings that the visitor chose; throw an Error for an invalid number.
  function chosen() {
    const own = elements.text.value === "own";
    const clips = elements.theta.value.trim() !== "none";
    return {
      ...FIXED,
      corpus: own ? null : CORPUS,
      cell: elements.cell.value,
      num_hiddens: Number(elements.num_hiddens.value),
      num_epochs: Number(elements.num_epochs.value),
      optimizer: elements.optimizer.value,
      lr: number(elements.lr, "The learning rate"),
      theta: clips ? number(elements.theta, "Clipping θ") : null,
      sampling: elements.sampling.value,
      normalize: own && find("all").checked ? "none" : "chapter",
      exact: elements.exact.checked,
      seed: seed(elements.seed),
    };
  }

  function seed({ value }) {
    const found = Number(value);
    if (value.trim() && Number.isInteger(found) && found >= 0 && found < 2 ** 32) return found;
    throw Error(`The random seed is “${value.slice(0, 50)}”; it must be a whole number from 0 to `
      + `${2 ** 32 - 1}.`);
  }

  function number({ value }, name) {
    const found = Number(value);
    if (value.trim() && found > 0 && Number.isFinite(found)) return found;
    throw Error(`${name} is “${value.slice(0, 50)}”; it must be a number above 0.`);
  }

  // Call a function; if it throws an Error, show the message to the visitor.
  function guarded(function_of) {
    find("problem").textContent = "";
    try {
      function_of();
    } catch (error) {
      find("problem").textContent = error.message;
    }
  }

  function begin() {
    settings = chosen();
    worker?.terminate();
    // A local page may not load scripts into a worker, so `data.js` contains the scripts' source.
    const address = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
    worker = new Worker(address);
    URL.revokeObjectURL(address);
    worker.onmessage = ({ data }) => {
      for (const kind in data) TOLD[kind](data[kind]);
    };
    [epochs, latest, changed] = [[], null, []];
    find("shown").hidden = find("exact").hidden = true;
    find("samples").replaceChildren();
    const { value: prefix, defaultValue: usual } = elements.prefix;
    const text = settings.corpus ? STORY : find("text").value;
    URL.revokeObjectURL(find("file").href);
    if (!settings.corpus) find("file").href = URL.createObjectURL(new Blob([text]));
    const more = { prefix, usual, name: "W_hq" };
    worker.postMessage({ ask: "begin", settings, text, ...more });
    runs(true);
  }

  function runs(now) {
    running = now;
    find("stop").disabled = !running && epochs.length >= settings.num_epochs;
    find("stop").textContent = running ? "Stop" : "Go on";
  }

  function stop_or_go_on() {
    worker.postMessage({ ask: running ? "stop" : "go" });
    runs(!running);
  }

  // Handlers for messages from the worker, keyed by kind.
  const TOLD = {
    begun({ names }) {
      weight.name.replaceChildren(...Object.keys(names).map((name) => new Option(name)));
      weight.name.value = "W_hq";
      find("shown").hidden = false;
      draw_curve();
    },
    picture(found) {
      latest = found;
      const { epoch, done, total, norm, theta } = found;
      if (epoch <= settings.num_epochs) {
        const of = `Epoch ${epoch} of ${settings.num_epochs}`;
        find("status").textContent = `${of}, minibatch ${done} of ${total}`;
      }
      const clipped = theta !== null && norm > theta ? `, clipped to ${theta}` : "";
      find("norm").textContent = `of all parameters the norm is ${norm.toPrecision(3)}${clipped}`;
      const { state } = found;
      const size = state[0].length, values = Float64Array.from(state.flatMap((each) => [...each]));
      draw(find("state"), [state.length * size / 16, 16], values, `The state, ${size} units`);
      draw_parameter();
    },
    epoch(found) {
      epochs.push(found);
      const item = document.createElement("li");
      const words = `epoch ${found.epoch}, perplexity ${perplexity(found)}: `;
      item.append(words, Object.assign(document.createElement("q"), { textContent: found.sample }));
      find("samples").prepend(item);
      draw_curve();
      if (found.digest) show_digest(found);
    },
    ended() {
      runs(false);
      find("status").textContent = `Trained for ${epochs.length} epochs.`;
    },
    error(message) {
      runs(false);
      find("problem").textContent = message;
      find("status").textContent = "";
    },
  };

  function show_digest({ epoch, digest }) {
    const { cell, num_hiddens, optimizer, sampling, lr, theta, seed, corpus } = settings;
    const recorded_rate = lr === LEARNING_RATES[optimizer];
    const usual = corpus && recorded_rate && theta === DEFAULTS.theta && seed === DEFAULTS.seed;
    const name = [cell, num_hiddens, optimizer, sampling].join(" ");
    const recorded = RECORDED.digests[name][epoch - 1]; // undefined after the last recorded epoch
    find("exact").hidden = false;
    find("epoch").textContent = epoch;
    find("digest").textContent = digest;
    const compared = recorded === digest ? "equal bit for bit" : "different";
    find("recorded").textContent = usual && recorded && !changed.length
      ? `NumPy's, in the project's records: ${recorded}, ${compared}.` : "";
    find("same").textContent = changed.length
      ? `No command trains this network: you have changed ${[...new Set(changed)].join(" and ")}.`
      : "This command trains the same network and prints its digest:";
    find("command").textContent = command(settings, epoch);
    find("command").parentElement.hidden = changed.length > 0;
    find("file").parentElement.hidden = changed.length > 0 || corpus !== null;
  }

  function draw_curve() {
    const values = epochs.map(({ loss }) => Math.min(loss, HIGHEST));
    const [low, high] = [0, Math.max(Math.log(30), ...values)];
    const x = (n) => LEFT + ((RIGHT - LEFT) * (n + 1)) / settings.num_epochs;
    const y = (value) => BOTTOM - ((BOTTOM - TOP) * (value - low)) / (high - low);
    const points = values.map((value, n) => `${x(n).toFixed(1)},${y(value).toFixed(1)}`);
    find("curve").querySelector("polyline").setAttribute("points", points.join(" "));
    const ends = [high, low].map((each) => Math.exp(each).toFixed(0));
    find("curve").querySelectorAll("text").forEach((each, n) =>
      (each.textContent = [...ends, `epoch ${settings.num_epochs}`][n]));
    const last = epochs.map(perplexity).slice(-5).join(", ");
    const label = `Perplexity of the last epochs: ${last || "none yet"}`;
    find("curve").setAttribute("aria-label", label);
  }

  function draw_parameter() {
    const { name, value, gradient } = latest;
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
    const [plus, minus] = ["--plus", "--minus"].map((each) =>
      style.getPropertyValue(each).trim().split(" ").map(Number));
    const largest = values.reduce((most, each) => Math.max(most, Math.abs(each)), Number.MIN_VALUE);
    const image = new ImageData(columns, rows);
    values.forEach((each, n) => {
      image.data.set([...(each < 0 ? minus : plus), 255 * Math.abs(each / largest)], 4 * n);
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // Return the row and the column of the selected weight; throw an Error if they are invalid.
  function place() {
    const { name, value: { shape } } = latest;
    const index = shape.length > 1 ? [weight.row, weight.column] : [weight.column];
    const found = index.map((each) => Number(each.value));
    const inside = (each, n) => Number.isInteger(each) && each >= 0 && each < shape[n];
    if (found.every(inside)) return found;
    throw Error(`${name} has the shape (${shape.join(", ")}), and rows are counted from 0.`);
  }

  function show_value() {
    const { shape, values } = latest.value;
    weight.row.disabled = shape.length === 1;
    guarded(() => {
      const [first, second = 0] = place();
      weight.value.value = values[first * (shape[1] ?? 1) + second].toPrecision(6);
    });
  }

  function change_weight() {
    const value = Number(weight.value.value);
    if (!weight.value.value.trim() || !Number.isFinite(value)) {
      throw Error(`The value is “${weight.value.value.slice(0, 50)}”; it must be a number.`);
    }
    worker.postMessage({ ask: "change_weight", name: latest.name, index: place(), value });
    changed.push("a weight");
  }

  function select({ currentTarget: canvas, offsetX, offsetY }) {
    weight.row.value = Math.floor((offsetY / canvas.clientHeight) * canvas.height);
    weight.column.value = Math.floor((offsetX / canvas.clientWidth) * canvas.width);
    show_value();
  }

  find("begin").onclick = () => guarded(begin);
  find("stop").onclick = stop_or_go_on;
  find("settings").onsubmit = (event) => event.preventDefault();
  for (const each of elements.text) {
    each.onchange = () => (find("own").hidden = elements.text.value !== "own");
  }
  elements.optimizer.onchange = () => {
    elements.lr.value = LEARNING_RATES[elements.optimizer.value];
  };
  elements.lr.onchange = () => guarded(() => {
    const lr = number(elements.lr, "The learning rate");
    if (!worker || lr === settings.lr) return;
    worker.postMessage({ ask: "change_rate", lr });
    changed.push("the learning rate");
  });
  weight.name.onchange = () => worker.postMessage({ ask: "show", name: weight.name.value });
  weight.row.oninput = weight.column.oninput = () => latest && show_value();
  find("weight").onsubmit = (event) => {
    event.preventDefault();
    guarded(change_weight);
  };
  for (const name of ["value", "gradient"]) find(name).onclick = select;
  find("script").hidden = true;
  find("train").hidden = false;
})();
