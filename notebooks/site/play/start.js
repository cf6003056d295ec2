// The network on the start page generates text as soon as its weights are loaded.
"use strict";
(() => {
  const find = (name) => document.getElementById(`start-${name}`);
  const [BARS, MAX_LENGTH, TEMPERATURE] = [6, 700, 0.5]; // MAX_LENGTH: characters before a restart
  const NAMES = { " ": "space", "\n": "line" };
  const model = load(NETWORKS[find("play").dataset.network]);
  let last, timer;

  function start() {
    last = read(tokenize(model.expected.prefix, model)[0], model).at(-1);
    find("text").textContent = model.expected.prefix;
  }

  // Show the largest probabilities, then draw the next character and append it to the text.
  function go() {
    if (find("text").textContent.length > MAX_LENGTH) start();
    const shares = softmax(last.logits, TEMPERATURE);
    const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, BARS);
    order.forEach((token, n) => {
      const [character, bar, percent] = find("next").children[n].children;
      character.textContent = NAMES[model.vocab[token]] ?? model.vocab[token];
      bar.style.setProperty("--share", shares[token]);
      percent.textContent = `${Math.round(100 * shares[token])}%`;
    });
    const token = sample(last.logits, TEMPERATURE);
    find("text").append(model.vocab[token]);
    find("text").scrollTop = find("text").scrollHeight;
    [last] = read([token], model, [last]).slice(-1);
  }

  function run(is_running) {
    clearInterval(timer);
    timer = is_running ? setInterval(go, 120) : undefined;
    find("run").textContent = is_running ? "Pause" : "Write";
  }

  const row = "<li><b></b><i></i><span></span></li>";
  find("next").innerHTML = row.repeat(BARS);
  find("run").onclick = () => run(!timer);
  find("run").hidden = find("ahead").hidden = false;
  start();
  go();
  run(!matchMedia("(prefers-reduced-motion: reduce)").matches);
})();
