// Selection of a framework, shared by all pages, and switching between tabs and columns. Without
// this script, a page shows the code of all frameworks, one after another.
"use strict";
(() => {
  const panels = [...document.querySelectorAll(".panel[data-for]")].filter((panel) => !panel.closest(".pair"));
  const KEY = "rnn-scratch.selection";
  const NAMES = {frameworks}; // names of frameworks, keyed by backend; make.site inserts them
  const ALL = Object.keys(NAMES);
  // Media queries for layouts with columns. Two columns must fit lines of 88 characters; if all
  // frameworks have columns, readers may have to scroll.
  const wide = { 2: matchMedia("(min-width: 80em)"), all: matchMedia(`(min-width: ${18 * ALL.length}em)`) };
  const frameworks_in = (panel) => panel.dataset.for.split(" ");

  // The framework, the number of columns ("1", "2" or "all"), and the second column's framework.
  const selection = { framework: ALL[0], columns: "1", beside: ALL[1] ?? ALL[0], ...load() };
  const address = new URL(location.href);
  const navigation = performance.getEntriesByType("navigation")[0]?.type;
  // Select the framework in the address, but not when the reader goes back or forward.
  if (navigation !== "back_forward" && ALL.includes(address.searchParams.get("framework"))) {
    select({ framework: address.searchParams.get("framework") });
  }

  function load() {
    try {
      const value = JSON.parse(localStorage.getItem(KEY)) ?? {};
      const is_valid = ALL.includes(value.framework) && ALL.includes(value.beside);
      return is_valid && ["1", "2", "all"].includes(value.columns) ? value : {};
    } catch {
      return {}; // storage is unavailable or its content is invalid
    }
  }

  function select(change) {
    Object.assign(selection, change);
    if (selection.beside === selection.framework) {
      selection.beside = ALL[(ALL.indexOf(selection.framework) + 1) % ALL.length];
    }
    try {
      localStorage.setItem(KEY, JSON.stringify(selection));
    } catch {} // without storage, the selection lasts until the page is left
    if (address.searchParams.has("framework")) {
      address.searchParams.set("framework", selection.framework);
      try {
        history.replaceState(history.state, "", address);
      } catch {} // some browsers forbid this for local files
    }
  }

  function visible_frameworks() {
    const columns = wide[selection.columns]?.matches ? selection.columns : "1";
    if (columns === "all") return ALL;
    return columns === "2" ? [selection.framework, selection.beside] : [selection.framework];
  }

  function show() {
    const visible = visible_frameworks();
    const root = document.documentElement;
    root.classList.add("scripted");
    root.classList.toggle("columns", visible.length > 1);
    root.style.setProperty("--columns", visible.length);
    for (const panel of panels) {
      panel.hidden = !frameworks_in(panel).some((name) => visible.includes(name));
      panel.style.setProperty("--column", 1 + visible.indexOf(frameworks_in(panel)[0]));
    }
    for (const group of new Set(panels.map((panel) => panel.parentElement))) {
      group.hidden = [...group.children].every((child) => child.hidden || child.matches(".tabs"));
    }
    for (const name of document.querySelectorAll(".term")) {
      const parent = name.closest(".panel");
      const shown = parent ? frameworks_in(parent) : ALL;
      const names = visible.filter((framework) => name.dataset[framework] && shown.includes(framework));
      if (names.length) name.textContent = names.map((framework) => name.dataset[framework]).join(" / ");
    }
    for (const tab of document.querySelectorAll(".tabs [role=tab]")) {
      const selected = tab.dataset.framework === selection.framework;
      tab.setAttribute("aria-selected", selected);
      tab.tabIndex = selected ? 0 : -1;
    }
    for (const input of document.querySelectorAll(".switch input, .switch select")) {
      if (input.type === "radio") input.checked = selection[input.name] === input.value;
      else input.value = selection.beside;
    }
    for (const choice of document.querySelectorAll(".switch .columns-all")) choice.hidden = !wide.all.matches;
    for (const group of document.querySelectorAll(".pieces")) set_columns(group, visible.length > 1);
    fit();
  }

  // Show the panels of a group in columns or as tabs.
  function set_columns(group, columns) {
    group.classList.toggle("side-by-side", columns);
    mark(group);
  }

  // Mark differences: words that most other columns lack in the same row, and lines that another
  // column lacks. Skip comments, docstrings and diffs.
  function mark(group) {
    const columns = [...group.querySelectorAll(":scope > .panel:not([hidden])")];
    const rows = new Map();
    for (const line of columns.flatMap((panel) => [...panel.querySelectorAll(".line")])) {
      const row = line.style.getPropertyValue("--row");
      rows.set(row, [...(rows.get(row) ?? []), line]);
    }
    for (const lines of rows.values()) {
      const words = lines.map((line) => [...line.children].filter((word) => !word.matches(".w, [class^=c], .sd, .gd, .gi")));
      const texts = words.map((line_words) => new Set(line_words.map((word) => word.textContent)));
      lines.forEach((line, n) => {
        line.classList.toggle("alone", lines.length < columns.length && words[n].length > 0);
        for (const word of words[n]) {
          const num_lines = texts.filter((text) => !text.has(word.textContent)).length; // without the word
          word.classList.toggle("differs", num_lines > 0 && num_lines >= (lines.length - 1) / 2);
        }
      });
    }
  }

  const SCROLLING = ".pst-scrollable-table-container, .formula, .pieces, .pair, .bd-content figure";

  // Turn tables that are wider than the page into lists; make scrollable boxes focusable.
  function fit() {
    for (const table of document.querySelectorAll("table.table")) {
      table.classList.remove("cards");
      const { scrollWidth, clientWidth } = table.parentElement;
      if (scrollWidth <= clientWidth + 1) continue;
      const headings = [...table.querySelectorAll("thead th")];
      for (const cell of table.querySelectorAll("td")) {
        cell.dataset.heading = headings[cell.cellIndex].textContent;
        cell.classList.toggle("empty", cell.textContent.trim() === "");
      }
      table.classList.add("cards");
    }
    for (const box of document.querySelectorAll(SCROLLING)) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  // Keep an element's position on the screen while `action` changes the height of content above it.
  function keep_position(element, action) {
    const old_top = element.getBoundingClientRect().top;
    action();
    scrollBy({ top: element.getBoundingClientRect().top - old_top, behavior: "instant" });
  }

  // Return the first visible block of the article whose top is not hidden, or the first block.
  function find_top_block() {
    const edge = document.querySelector(".switch").getBoundingClientRect().bottom;
    const blocks = [...document.querySelectorAll(".bd-article :is(p, h1, h2, h3, .pieces, figure)")];
    return blocks.find((block) => block.getBoundingClientRect().top >= edge && block.offsetParent) ?? blocks[0];
  }

  function add_tabs(group, number) {
    const group_panels = [...group.children];
    const list = document.createElement("div");
    list.className = "tabs";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Framework");
    for (const panel of group_panels) {
      const [name] = frameworks_in(panel);
      const tab = document.createElement("button");
      Object.assign(tab, { type: "button", id: `tab-${number}-${name}`, textContent: NAMES[name] });
      tab.dataset.framework = name;
      tab.setAttribute("role", "tab");
      panel.id = `panel-${number}-${name}`;
      tab.setAttribute("aria-controls", panel.id);
      tab.onclick = () => keep_position(tab, () => { select({ framework: name }); show(); });
      list.append(tab);
    }
    list.onkeydown = (event) => {
      const tabs = [...list.children];
      const [index, end] = [tabs.indexOf(event.target), tabs.length - 1];
      const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: end }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      const next = tabs[(target + tabs.length) % tabs.length];
      next.click();
      next.focus({ preventScroll: true });
    };
    group.prepend(list);
  }

  function add_controls() {
    const radio = (name, value, text) =>
      `<label class="${name}-${value}"><input type="radio" name="${name}" value="${value}"><span>${text}</span></label>`;
    const form = document.createElement("form");
    form.className = "switch";
    form.innerHTML =
      `<fieldset><legend>Framework</legend>${ALL.map((name) => radio("framework", name, NAMES[name])).join("")}</fieldset>` +
      `<fieldset class="layout"><legend>Show</legend>${radio("columns", "1", "tabs")}${radio("columns", "2", "two columns")}` +
      `${radio("columns", "all", "all")}<label class="second">beside it <select aria-label="In the second column">` +
      `${ALL.map((name) => `<option value="${name}">${NAMES[name]}</option>`).join("")}</select></label></fieldset>`;
    form.onchange = (event) => {
      const { name, value } = event.target;
      const change = { framework: { framework: value }, columns: { columns: value } }[name];
      keep_position(find_top_block(), () => { select(change ?? { beside: value }); show(); });
    };
    document.querySelector(".bd-header").after(form); // stays visible when the page is scrolled
  }

  if (panels.length) {
    add_controls();
    document.querySelectorAll(".pieces").forEach(add_tabs);
    for (const query of Object.values(wide)) query.onchange = show;
    addEventListener("pageshow", (event) => {
      if (event.persisted) { Object.assign(selection, load()); show(); }
    });
    show();
  }
  // Mark the differences in pairs, which show the same frameworks regardless of the selection.
  function mark_pairs() {
    for (const pair of document.querySelectorAll(".pair")) {
      pair.style.setProperty("--columns", pair.children.length);
      [...pair.children].forEach((panel, n) => panel.style.setProperty("--column", n + 1));
      set_columns(pair, wide[2].matches);
    }
  }
  wide[2].addEventListener("change", mark_pairs);
  mark_pairs();
  // Print every page in the light theme.
  const { dataset } = document.documentElement;
  let theme = dataset.theme;
  matchMedia("print").onchange = ({ matches }) => {
    if (matches) theme = dataset.theme;
    dataset.theme = matches ? "light" : theme;
  };
  addEventListener("resize", fit);
  addEventListener("load", fit);
})();
