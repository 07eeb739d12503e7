// A table that sorts by its columns and searches its rows; long ones show their first rows.

import { button, el } from "./dom.mjs";
import { plural } from "./numbers.mjs";
import { found, ordered } from "./order.mjs";

const PAGE = 50, MORE = 500;

// columns: see columns.mjs. options: noun, hint, onrow(i), sort (a key), down, page, plain.
export function sortable(id, columns, rows, options = {}) {
  const page = options.page || PAGE, noun = options.noun || "row";
  const state = { words: "", column: options.sort, down: options.down ?? true, shown: page };
  const body = el("tbody", {});
  const count = el("output", { class: "dim", id: `${id}-count` });
  const more = button("", () => { state.shown += MORE; render(); },
    { class: "more", id: `${id}-more` });
  const heads = columns.map((column) => headOf(column, () => sortBy(column)));
  const texts = rows.map((row) =>
    columns.map((column) => (column.search ? column.search(row) : "")).join(" ").toLowerCase());

  function sortBy(column) {
    const first = column.numeric ? column.first !== "up" : false;
    state.down = state.column === column.key ? !state.down : first;
    state.column = column.key;
    render();
  }
  function render() {
    const column = columns.find((each) => each.key === state.column);
    let kept = found(texts, state.words);
    if (column) kept = ordered(kept, (i) => column.value(rows[i]), state.down);
    const shown = kept.slice(0, state.shown);
    body.replaceChildren(...shown.map((i) => rowOf(columns, rows[i], i, options.onrow)));
    columns.forEach((each, k) => heads[k].setAttribute("aria-sort",
      each !== column ? "none" : state.down ? "descending" : "ascending"));
    const all = plural(rows.length, noun);
    count.textContent = kept.length === rows.length ? all : `${kept.length} of ${all}`;
    more.hidden = kept.length <= shown.length;
    more.textContent = `Show more (${kept.length - shown.length} left)`;
  }
  render();
  const look = (event) => {
    Object.assign(state, { words: event.target.value, shown: page });
    render();
  };
  const hint = options.hint || "Filter";
  const search = el("input", { id: `${id}-search`, type: "search", placeholder: hint,
    "aria-label": hint, oninput: look });
  return el("div", { class: "sortable", id: `${id}-table` },
    options.plain ? null : el("div", { class: "tools" }, search, count),
    scrolling(`Table of ${noun}s`,
      el("table", {}, el("thead", {}, el("tr", {}, heads)), body)), more);
}

// What is wider than the page scrolls on its own, by keyboard too.
export function scrolling(label, ...children) {
  const attributes = { class: "scroll", tabindex: 0, role: "group", "aria-label": label };
  return el("div", attributes, children);
}

function headOf(column, onclick) {
  const attributes = { scope: "col", class: column.numeric ? "number" : "" };
  const more = { "data-key": column.key, title: column.title };
  return el("th", attributes, button(column.name, onclick, more));
}

// The first cell of a row that leads somewhere is a button; a click anywhere in the row does too.
function rowOf(columns, row, i, onrow) {
  const cells = columns.map((column, k) => {
    const className = column.numeric ? "number" : column.width || "";
    const shown = column.show(row);
    const inside = k || !onrow ? shown : button(shown, null, { class: "plain name" });
    return el(k ? "td" : "th", { class: className, scope: k ? null : "row" }, inside);
  });
  const leads = onrow && (() => onrow(i));
  return el("tr", { "data-row": i, onclick: leads, class: onrow ? "link-row" : "" }, cells);
}
