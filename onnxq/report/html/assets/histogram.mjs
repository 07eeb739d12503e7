// The histogram of one tensor with the range of every method.

import { powers, ticks } from "./axis.mjs";
import { below, chartWidth, drawing } from "./charts.mjs";
import { svg } from "./dom.mjs";
import { at, digits, plural } from "./numbers.mjs";

const H = 280, LEFT = 52, RIGHT = 14, TOP = 64, BOTTOM = 34;

export const METHOD_CLASS = {
  max: "m-max", percentile: "m-percentile", mse: "m-mse", entropy: "m-entropy",
};

// Where a range ends, on both sides of 0 where values are.
function endsOf(entry, signed) {
  if (entry.low !== undefined) return [entry.low, entry.high];
  return signed ? [-entry.amax, entry.amax] : [entry.amax];
}

export function histogramChart(tensor) {
  const { low, high, counts } = tensor.histogram, used = tensor.used;
  const W = chartWidth(), signed = low < 0;
  const ranges = tensor.readings.map((r) =>
    ({ name: r.method, className: METHOD_CLASS[r.method], ends: endsOf(r, signed) }));
  if (used) ranges.push({ name: "used", className: "m-used", ends: endsOf(used, signed) });
  const ends = ranges.flatMap((range) => range.ends);
  const x0 = Math.min(low, 0, ...ends), x1 = Math.max(high, ...ends), wide = x1 - x0 || 1;
  const peak = Math.max(1, ...counts), top = Math.log10(1 + peak);
  const place = {
    x: (v) => at(LEFT + ((v - x0) / wide) * (W - LEFT - RIGHT)),
    y: (c) => at(H - BOTTOM - (Math.log10(1 + c) / top) * (H - BOTTOM - TOP)),
  };
  const name = "value; counts on a logarithmic scale";
  return drawing("histogram", W, H, toldOf(tensor, ranges),
    powers(peak).map((c) => gridOf(c, W, place)), columnsOf(tensor.histogram, wide, place),
    ranges.map((range, i) => markOf(range, i, place)),
    below(W, H, ticks(x0, x1, W / 90), place.x, name, LEFT, RIGHT, BOTTOM));
}

// What the drawing shows, for those who cannot see it.
function toldOf(tensor, ranges) {
  const { low, high, counts } = tensor.histogram;
  const ends = ranges.map((range) => `${range.name} ${digits(range.ends[range.ends.length - 1])}`);
  const count = Math.round(counts.reduce((a, b) => a + b, 0));
  const most = counts.indexOf(Math.max(...counts)), step = (high - low) / counts.length;
  return `Histogram of ${tensor.name}: ${plural(count, "value")} from ${digits(low)} to `
    + `${digits(high)}, most near ${digits(low + (most + 0.5) * step)}; ranges: ${ends.join(", ")}`;
}

function columnsOf({ low, high, counts }, wide, place) {
  const step = (high - low) / counts.length || wide / counts.length;
  return counts.map((count, i) => {
    if (!count) return null;
    const a = low + i * step, x = place.x(a), y = place.y(count);
    const width = at(Math.max(0.6, place.x(a + step) - x - 0.4));
    return svg("rect", { class: "column", x, y, width, height: at(H - BOTTOM - y) },
      svg("title", {}, `${digits(a)} to ${digits(a + step)}: ${digits(count, 3)} values`));
  });
}

function gridOf(c, W, place) {
  const y = place.y(c), words = c < 1e5 ? String(c) : c.toExponential(0).replace("e+", "e");
  return [svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y, y2: y }),
    svg("text", { class: "tick", x: LEFT - 6, y: y + 4, "text-anchor": "end" }, words)];
}

function markOf({ name, className, ends }, i, place) {
  return ends.map((v, k) => {
    const x = place.x(v), last = k === ends.length - 1;
    const label = { x: at(x - 4), y: 12 + 11 * i, "text-anchor": "end" };
    return svg("g", { class: `mark ${className}` }, svg("title", {}, `${name}: ${digits(v)}`),
      svg("line", { x1: x, x2: x, y1: 14 + 11 * i, y2: H - BOTTOM }),
      last ? svg("text", label, name) : null);
  });
}
