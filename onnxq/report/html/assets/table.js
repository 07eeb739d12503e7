// A table that sorts by its columns and searches its rows; long ones show their first rows.

const PAGE = 50;

// columns: {key, name, title, value(row) to sort by, show(row) or text, numeric, first: "down"}
function sortable(id, columns, rows, options = {}) {
  const state = { words: "", column: options.sort || null, down: options.down ?? true, shown: options.page || PAGE };
  const body = el("tbody", {}), count = el("output", { class: "dim", id: `${id}-count` });
  const more = button("", "Show more rows", () => { state.shown += 500; render(); }, { class: "more", id: `${id}-more` });
  const heads = columns.map((column) => el("th", { scope: "col", class: column.numeric ? "number" : "" },
    button(column.name, column.title || `Sort by ${column.name}`, () => sortBy(column), { "data-key": column.key })));
  const texts = rows.map((row) => columns.map((column) => (column.search ? column.search(row) : "")).join(" ").toLowerCase());

  function sortBy(column) {
    const first = column.numeric ? column.first !== "up" : false;
    state.down = state.column === column.key ? !state.down : first;
    state.column = column.key;
    render();
  }
  function chosenRows() {
    const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = rows.map((_, i) => i).filter((i) => words.every((word) => texts[i].includes(word)));
    const column = columns.find((each) => each.key === state.column);
    if (!column) return kept;
    const keys = new Map(kept.map((i) => [i, column.value(rows[i])]));
    const missing = (key) => key === undefined || key === null || Number.isNaN(key);
    return kept.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y) || a - b;
      const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x < y ? -1 : x > y ? 1 : 0;
      return (state.down ? -order : order) || a - b;
    });
  }
  function render() {
    const kept = chosenRows(), shown = kept.slice(0, state.shown);
    body.replaceChildren(...shown.map((i) => el("tr", { "data-row": i, onclick: options.onrow && (() => options.onrow(i)), class: options.onrow ? "link-row" : "" },
      columns.map((column, k) => el(k ? "td" : "th", { class: column.numeric ? "number" : column.short ? "short" : "", scope: k ? null : "row" }, column.show(rows[i]))))));
    columns.forEach((column, k) => heads[k].setAttribute("aria-sort", state.column !== column.key ? "none" : state.down ? "descending" : "ascending"));
    count.textContent = kept.length === rows.length ? plural(rows.length, options.noun || "row") : `${kept.length} of ${plural(rows.length, options.noun || "row")}`;
    more.hidden = kept.length <= shown.length;
    more.textContent = `Show more (${kept.length - shown.length} left)`;
  }
  render();
  const search = el("input", { id: `${id}-search`, type: "search", placeholder: options.hint || "Filter", "aria-label": options.hint || "Filter",
    oninput: (event) => { state.words = event.target.value; state.shown = options.page || PAGE; render(); } });
  return el("div", { class: "sortable", id: `${id}-table` },
    options.plain ? null : el("div", { class: "tools" }, search, count),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": options.noun || "table" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), body)), more);
}
