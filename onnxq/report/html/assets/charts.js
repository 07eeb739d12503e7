// Charts: points and lines over two axes, and bars. Labels are text beside marks, also for print.

// Of the screen, so that letters are as large as those of the text.
const chartWidth = () => Math.min(760, Math.max(300, document.documentElement.clientWidth - 60));

// About `count` round numbers from low to high.
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= rough);
  const found = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + step * 1e-9; x += step) found.push(Math.abs(x) < step * 1e-9 ? 0 : x);
  return found;
}

function span(values) {
  const finite = values.filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  const low = Math.min(...finite), high = Math.max(...finite), room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

// marks: {points: [{x, y, title, error, className}], line: true to join them, className}
// across: [{y, label}] lines over the whole width.
function chart({ id, title, x, y, marks, across = [], height = 260, low }) {
  const W = chartWidth(), H = height, left = 58, bottom = 40, top = 14, right = 16;
  const all = marks.flatMap((mark) => mark.points).filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y));
  if (!all.length) return el("p", { class: "dim" }, "No finite values to draw.");
  const [x0, x1] = span(all.map((p) => p.x));
  const [ya, y1] = span([...all.flatMap((p) => [p.y - (p.error || 0), p.y + (p.error || 0)]), ...across.map((line) => line.y)]);
  const y0 = low === undefined ? ya : Math.min(low, ya);
  const px = (v) => left + (v - x0) / (x1 - x0) * (W - left - right);
  const py = (v) => H - bottom - (v - y0) / (y1 - y0) * (H - bottom - top);
  const axes = [
    ticks(y0, y1).map((v) => [svg("line", { class: "grid", x1: left, x2: W - right, y1: py(v), y2: py(v) }), svg("text", { class: "tick", x: left - 6, y: py(v) + 4, "text-anchor": "end" }, digits(v))]),
    ticks(x0, x1, W / 90).map((v) => svg("text", { class: "tick", x: px(v), y: H - bottom + 16, "text-anchor": "middle" }, digits(v))),
    svg("line", { class: "axis", x1: left, x2: W - right, y1: H - bottom, y2: H - bottom }),
    svg("text", { class: "axis-name", x: (left + W) / 2, y: H - 4, "text-anchor": "middle" }, x),
    svg("text", { class: "axis-name", transform: `translate(13 ${(H - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y),
  ];
  const drawn = marks.map((mark) => {
    const points = mark.points.filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y));
    const line = mark.line && svg("polyline", { class: `line ${mark.className || ""}`, points: points.map((p) => `${at(px(p.x))},${at(py(p.y))}`).join(" ") });
    const dots = points.map((p) => svg("g", { class: `dot ${p.className || mark.className || ""}` }, svg("title", {}, p.title || ""),
      p.error ? svg("line", { x1: px(p.x), x2: px(p.x), y1: py(p.y - p.error), y2: py(p.y + p.error) }) : null,
      svg("circle", { cx: at(px(p.x)), cy: at(py(p.y)), r: mark.radius || 4 })));
    return [line || null, dots];
  });
  const lines = across.map((line) => [svg("line", { class: "across", x1: left, x2: W - right, y1: py(line.y), y2: py(line.y) }),
    svg("text", { class: "tick", x: W - right, y: py(line.y) - 4, "text-anchor": "end" }, line.label)]);
  return svg("svg", { id, class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title }, axes, lines, drawn);
}

// rows: {name, value (0..1 of the longest), spread, note, chip, onclick}
function bars(id, rows, first) {
  const list = el("ol", { class: "bars", id });
  const more = button("", "Show all bars", () => show(rows.length), { class: "more" });
  function show(count) {
    list.replaceChildren(...rows.slice(0, count).map((row) => el("li", {},
      el("span", { class: "bar-name" }, row.onclick ? button(breakable(row.name), `Go to ${row.name}`, row.onclick, { class: "plain name" }) : breakable(row.name)),
      el("span", { class: "bar-track" },
        el("span", { class: "bar", style: `width:${(100 * Math.max(0, row.value)).toFixed(2)}%` }),
        row.spread ? el("span", { class: "spread", style: `left:${(100 * Math.max(0, row.value - row.spread)).toFixed(2)}%;width:${(100 * Math.min(1, 2 * row.spread)).toFixed(2)}%` }) : null),
      el("span", { class: "bar-note" }, row.note))));
    more.hidden = count >= rows.length;
    more.textContent = `Show all ${rows.length}`;
  }
  show(first);
  return [list, more];
}
