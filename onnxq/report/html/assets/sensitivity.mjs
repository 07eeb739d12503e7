// What each node costs, as bars, and the curve of leaving the worst float.

import { bars, chart } from "./charts.mjs";
import { figure } from "./columns.mjs";
import { dim, el, section } from "./dom.mjs";
import { digits, number, percent, plural } from "./numbers.mjs";
import { sortable } from "./table.mjs";

const FIRST = 20; // bars
const BESIDE = "Beside the bar: share, score, rank (= for ranks that the samples cannot tell"
  + " apart).";
const CURVE = "With the worst left float";

export function sensitivitySection(data, bus) {
  const found = data.sensitivity, unit = found.unit ? ` ${found.unit}` : "";
  const index = new Map(data.nodes.map((node, i) => [node.name, i]));
  const longest = Math.max(1e-9, ...found.rows.map((row) => row.share + (row.spread || 0)));
  const rows = found.rows.map((row) => barOf(row, longest, unit, index, bus));
  return section("sensitivity", "Sensitivity", dim(`${toldOf(found, unit)} ${BESIDE}`),
    bars("sensitivity-bars", rows, FIRST), found.curve.length ? curveOf(found, unit) : null);
}

function toldOf(found, unit) {
  const done = found.mode === "one-on" ? "quantized alone" : "alone left float";
  const where = found.at === "outputs" ? "outputs" : "node";
  const scores = [["float", found.float_score], ["all quantized", found.quantized_score]]
    .filter(([, score]) => score !== null && score !== undefined)
    .map(([name, score]) => `; ${name}: ${digits(score)}${unit}`);
  return `Share of the damage of each ${found.granularity} ${done}, by ${found.metric} at the `
    + `${where} over ${plural(found.samples, "sample")}${scores.join("")}.`;
}

function barOf(row, longest, unit, index, bus) {
  const place = index.get(row.nodes[0] || row.name);
  const spread = row.spread ? ` ± ${digits(100 * row.spread, 2)}` : "";
  return {
    name: row.name, value: row.share / longest, spread: (row.spread || 0) / longest,
    note: `${percent(row.share)} %${spread} · ${digits(row.score)}${unit} · `
      + `#${row.rank}${row.tied ? "=" : ""}`,
    onclick: place === undefined ? null : () => bus.node(place),
  };
}

function curveOf(found, unit) {
  const points = found.curve.map(([count, score]) =>
    ({ x: count, y: number(score), title: `${count} left float: ${digits(score)}` }));
  const columns = [figure("x", "worst left float", String),
    figure("y", `${found.metric}${unit}`, digits)];
  return [el("h3", {}, CURVE),
    chart({ id: "curve", title: `Score: ${CURVE.toLowerCase()}; the table below has the points`,
      x: "worst left float", y: `${found.metric}${unit}`, marks: [{ points, line: true }] }),
    el("details", {}, el("summary", {}, "The curve as a table"),
      sortable("curve-points", columns, points, { plain: true, noun: "point" }))];
}
