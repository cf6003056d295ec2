// One choice of framework for every page, and the switch between tabs and columns.
// Without it the page shows all frameworks' code, one below the other.
"use strict";
(() => {
  const panels = [...document.querySelectorAll(".panel[data-for]")];
  const KEY = "rnn-scratch.shown";
  const NAMES = { numpy: "NumPy", torch: "PyTorch", tensorflow: "TensorFlow", mxnet: "MXNet" };
  const ALL = Object.keys(NAMES);
  const wide = { 2: matchMedia("(min-width: 60em)"), 4: matchMedia("(min-width: 76em)") };
  const of = (panel) => panel.dataset.for.split(" ");

  // What is chosen: a framework, how many columns, and what stands in the second one.
  const chosen = { framework: "numpy", columns: 1, beside: "torch", ...remembered() };
  const address = new URL(location.href);
  const how = performance.getEntriesByType("navigation")[0]?.type;
  // Who comes back to a page keeps what was chosen meanwhile.
  if (how !== "back_forward" && ALL.includes(address.searchParams.get("framework"))) {
    choose({ framework: address.searchParams.get("framework") });
  }

  function remembered() {
    try {
      const found = JSON.parse(localStorage.getItem(KEY)) ?? {};
      const good = ALL.includes(found.framework) && ALL.includes(found.beside);
      return good && [1, 2, 4].includes(found.columns) ? found : {};
    } catch {
      return {}; // a browser that remembers nothing, or something else
    }
  }

  function choose(change) {
    Object.assign(chosen, change);
    if (chosen.beside === chosen.framework) {
      chosen.beside = ALL[(ALL.indexOf(chosen.framework) + 1) % ALL.length];
    }
    try {
      localStorage.setItem(KEY, JSON.stringify(chosen));
    } catch {} // it lasts as long as the page, then
    if (address.searchParams.has("framework")) {
      address.searchParams.set("framework", chosen.framework);
      try {
        history.replaceState(history.state, "", address);
      } catch {} // not from a folder, in some browsers
    }
  }

  function shown() {
    const columns = wide[chosen.columns]?.matches ? chosen.columns : 1;
    if (columns === 4) return ALL;
    return columns === 2 ? [chosen.framework, chosen.beside] : [chosen.framework];
  }

  function show() {
    const visible = shown();
    const root = document.documentElement;
    root.classList.add("chosen");
    root.classList.toggle("columns", visible.length > 1);
    root.style.setProperty("--columns", visible.length);
    for (const panel of panels) {
      panel.hidden = !of(panel).some((name) => visible.includes(name));
      panel.style.setProperty("--column", 1 + visible.indexOf(of(panel)[0]));
    }
    for (const group of new Set(panels.map((panel) => panel.parentElement))) {
      group.hidden = [...group.children].every((each) => each.hidden || each.matches(".tabs"));
    }
    for (const name of document.querySelectorAll(".named")) {
      const inside = name.closest(".panel");
      const those = visible.filter((each) => name.dataset[each] && (!inside || of(inside).includes(each)));
      if (those.length) name.textContent = those.map((each) => name.dataset[each]).join(" / ");
    }
    for (const tab of document.querySelectorAll(".tabs [role=tab]")) {
      const selected = tab.dataset.framework === chosen.framework;
      tab.setAttribute("aria-selected", selected);
      tab.tabIndex = selected ? 0 : -1;
    }
    for (const input of document.querySelectorAll(".switch input, .switch select")) {
      if (input.type === "radio") input.checked = String(chosen[input.name]) === input.value;
      else input.value = chosen.beside;
    }
    document.querySelectorAll(".pieces").forEach(mark);
    reachable();
  }

  // Lines that are not the same in all columns.
  function mark(group) {
    const columns = [...group.querySelectorAll(".panel:not([hidden])")].map((panel) =>
      [...panel.querySelectorAll(".line")]);
    const rows = new Map();
    for (const line of columns.flat()) {
      const row = line.style.getPropertyValue("--row");
      rows.set(row, [...(rows.get(row) ?? []), line]);
    }
    for (const lines of rows.values()) {
      const texts = lines.map((line) => line.textContent.trimEnd());
      const same = texts.every((text) => text === texts[0]) && lines.length === columns.length;
      const blank = texts.every((text) => text === "");
      for (const line of lines) line.classList.toggle("differs", columns.length > 1 && !same && !blank);
    }
  }

  // What scrolls can be scrolled with the keyboard.
  function reachable() {
    for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .formula")) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  // Where a reader clicks stays where it is, however long what is above becomes.
  function keeping(element, action) {
    const before = element.getBoundingClientRect().top;
    action();
    scrollBy({ top: element.getBoundingClientRect().top - before, behavior: "instant" });
  }

  function tabs(group, number) {
    const own = [...group.children];
    const list = document.createElement("div");
    list.className = "tabs";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Framework");
    for (const panel of own) {
      const [name] = of(panel);
      const tab = document.createElement("button");
      Object.assign(tab, { type: "button", id: `tab-${number}-${name}`, textContent: NAMES[name] });
      tab.dataset.framework = name;
      tab.setAttribute("role", "tab");
      panel.id = `panel-${number}-${name}`;
      tab.setAttribute("aria-controls", panel.id);
      tab.onclick = () => keeping(tab, () => { choose({ framework: name }); show(); });
      list.append(tab);
    }
    list.onkeydown = (event) => {
      const all = [...list.children];
      const at = all.indexOf(event.target);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = all[(to + all.length) % all.length];
      next.click();
      next.focus({ preventScroll: true });
    };
    group.prepend(list);
  }

  function controls() {
    const radio = (name, value, text) =>
      `<label class="${name}-${value}"><input type="radio" name="${name}" value="${value}"><span>${text}</span></label>`;
    const form = document.createElement("form");
    form.className = "switch";
    form.innerHTML =
      `<fieldset><legend>Framework</legend>${ALL.map((name) => radio("framework", name, NAMES[name])).join("")}</fieldset>` +
      `<fieldset class="layout"><legend>Show</legend>${radio("columns", 1, "tabs")}${radio("columns", 2, "two columns")}` +
      `${radio("columns", 4, "four")}<label class="beside">beside it <select aria-label="In the second column">` +
      `${ALL.map((name) => `<option value="${name}">${NAMES[name]}</option>`).join("")}</select></label></fieldset>`;
    form.onchange = (event) => {
      const { name, value } = event.target;
      const change = { framework: { framework: value }, columns: { columns: Number(value) } }[name];
      keeping(form, () => { choose(change ?? { beside: value }); show(); });
    };
    document.querySelector(".md-content h1")?.after(form);
  }

  if (panels.length) {
    controls();
    document.querySelectorAll(".pieces").forEach(tabs);
    for (const query of Object.values(wide)) query.onchange = show;
    addEventListener("pageshow", (event) => {
      if (event.persisted) { Object.assign(chosen, remembered()); show(); }
    });
    show();
  }
  addEventListener("resize", reachable);
  addEventListener("load", reachable);
})();
