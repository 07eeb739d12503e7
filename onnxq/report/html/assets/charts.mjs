// Charts: points and lines over two axes, and bars. Labels are text beside marks, also for print.

import { span, ticks } from "./axis.mjs";
import { breakable, button, dim, el, svg } from "./dom.mjs";
import { at, digits } from "./numbers.mjs";

const LEFT = 58, BOTTOM = 40, TOP = 14, RIGHT = 16;

// Of the screen, so that letters are as large as those of the text.
export const chartWidth = () =>
  Math.min(760, Math.max(300, document.documentElement.clientWidth - 60));

const finite = (points) => points.filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y));

// marks: {points: [{x, y, title, error, className}], line: true to join them, className, radius}
// across: [{y, label}] lines over the whole width.
export function chart({ id, title, x, y, marks, across = [], height = 260 }) {
  const W = chartWidth(), H = height;
  const all = finite(marks.flatMap((mark) => mark.points));
  if (!all.length) return dim("No finite values to draw.");
  const [x0, x1] = span(all.map((p) => p.x));
  const ends = all.flatMap((p) => [p.y - (p.error || 0), p.y + (p.error || 0)]);
  const [y0, y1] = span([...ends, ...across.map((line) => line.y)]);
  const place = {
    x: (v) => at(LEFT + ((v - x0) / (x1 - x0)) * (W - LEFT - RIGHT)),
    y: (v) => at(H - BOTTOM - ((v - y0) / (y1 - y0)) * (H - BOTTOM - TOP)),
  };
  const level = (name, y) =>
    svg("line", { class: name, x1: LEFT, x2: W - RIGHT, y1: y, y2: y });
  const note = (x, y, words) => svg("text", { class: "tick", x, y, "text-anchor": "end" }, words);
  const lines = across.map((line) =>
    [level("across", place.y(line.y)), note(W - RIGHT, place.y(line.y) - 4, line.label)]);
  const axes = [
    ticks(y0, y1).map((v) =>
      [level("grid", place.y(v)), note(LEFT - 6, place.y(v) + 4, digits(v))]),
    below(W, H, ticks(x0, x1, W / 90), place.x, x),
    svg("text", { class: "axis-name", "text-anchor": "middle",
      transform: `translate(13 ${(H - BOTTOM) / 2}) rotate(-90)` }, y),
  ];
  return drawing(id, W, H, title, axes, lines, marks.map((mark) => drawn(mark, place)));
}

// What is drawn, with a text that stands for it.
export function drawing(id, W, H, title, ...children) {
  const attributes = { id, viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title };
  return svg("svg", { class: "chart", ...attributes }, children);
}

// The lower axis, with numbers and a name.
export function below(W, H, numbers, place, name, left = LEFT, right = RIGHT, bottom = BOTTOM) {
  const y = H - bottom;
  return [
    svg("line", { class: "axis", x1: left, x2: W - right, y1: y, y2: y }),
    numbers.map((v) =>
      svg("text", { class: "tick", x: place(v), y: y + 16, "text-anchor": "middle" }, digits(v))),
    svg("text", { class: "axis-name", x: (left + W) / 2, y: H - 4, "text-anchor": "middle" }, name),
  ];
}

function drawn(mark, place) {
  const points = finite(mark.points), name = mark.className || "";
  const corners = points.map((p) => `${place.x(p.x)},${place.y(p.y)}`).join(" ");
  const dots = points.map((p) => {
    const x = place.x(p.x);
    const [y1, y2] = [place.y(p.y - (p.error || 0)), place.y(p.y + (p.error || 0))];
    return svg("g", { class: `dot ${p.className || name}` },
      svg("title", {}, p.title || ""), p.error ? svg("line", { x1: x, x2: x, y1, y2 }) : null,
      svg("circle", { cx: x, cy: place.y(p.y), r: mark.radius ?? 4 }));
  });
  return [mark.line ? svg("polyline", { class: `line ${name}`, points: corners }) : null, dots];
}

const share = (value) => `${(100 * Math.min(1, Math.max(0, value))).toFixed(2)}%`;

// rows: {name, value (0..1 of the longest), spread, note, onclick}
export function bars(id, rows, first) {
  const list = el("ol", { class: "bars", id });
  const more = button(`Show all ${rows.length}`, () => show(rows.length), { class: "more" });
  function show(count) {
    list.replaceChildren(...rows.slice(0, count).map(barOf));
    more.hidden = count >= rows.length;
  }
  show(first);
  return [list, more];
}

function barOf(row) {
  const name = breakable(row.name);
  const leads = row.onclick && button(name, row.onclick, { class: "plain name" });
  const spread = { class: "spread",
    style: `left:${share(row.value - row.spread)};width:${share(2 * row.spread)}` };
  return el("li", {}, el("span", { class: "bar-name" }, leads || name),
    el("span", { class: "bar-track", "aria-hidden": "true" },
      el("span", { class: "bar", style: `width:${share(row.value)}` }),
      row.spread ? el("span", spread) : null),
    el("span", { class: "bar-note" }, row.note));
}
