// Every plan that a search measured.

import { chart } from "./charts.mjs";
import { figure, named, word } from "./columns.mjs";
import { breakable, dim, el, section } from "./dom.mjs";
import { digits, number, percent, plural } from "./numbers.mjs";
import { sortable } from "./table.mjs";

export function searchSection(data) {
  const found = data.search, metric = `${found.metric} ${found.unit}`.trim();
  const told = `Every plan that was measured, on ${plural(found.samples, "sample")}: cost `
    + `(${found.cost}; the float model is 1) against ${found.metric}. The line joins plans that no `
    + `other beats in both. Budget: ${found.budget}.`;
  const key = (name, words) => [el("span", { class: `key ${name}` }), words];
  return section("search", "Search", dim(told), paretoOf(found, metric),
    el("p", { class: "legend" },
      key("front", "front "), key("chosen", "chosen "), key("off", "measured")),
    sortable("trials", columnsOf(found, metric), found.trials,
      { noun: "plan", plain: true, sort: "cost", down: false }),
    found.learnt ? learntOf(found.learnt) : null);
}

// The profile that a cost was learnt from, the device fitted to it, and how well.
function learntOf(learnt) {
  const signed = (v) => `${v > 0 ? "+" : ""}${v.toFixed(0)}`;
  const times = [word("name", "time of"), figure("kernels", "kernels", String),
    figure("ms", "ms", digits)];
  const rates = [word("name", "rate"), figure("rate", "fitted", digits)];
  const errors = [named("kernel"), figure("error", "error of the fit, %", signed)];
  return [
    el("h3", {}, "What the cost was learnt from"),
    learnt.lines.map((line) => el("p", {}, breakable(line))),
    sortable("learnt", times, learnt.times, { noun: "time", plain: true }),
    sortable("rates", rates, learnt.rates, { noun: "rate", plain: true }),
    sortable("fit", errors, learnt.errors,
      { noun: "kernel", hint: "Find a kernel", page: 12 }),
  ];
}

const stateOf = (found, trial) =>
  (found.trials.indexOf(trial) === found.chosen ? "chosen" : trial.front ? "front" : "off");

function paretoOf(found, metric) {
  const points = found.trials.map((trial) => ({
    x: trial.cost, y: number(trial.score), error: trial.stderr || 0,
    className: stateOf(found, trial),
    title: `cost ${digits(trial.cost)}, ${found.metric} ${digits(trial.score)}, `
      + `${trial.float.length} nodes left float`,
  }));
  const front = points.filter((_, i) => found.trials[i].front).sort((a, b) => a.x - b.x);
  const float = number(found.float_score);
  return chart({ id: "pareto", title: "Cost against score; the table below has the plans",
    x: `cost (${found.cost})`, y: metric, height: 320,
    marks: [{ points: front, line: true, className: "front", radius: 0 }, { points, radius: 5 }],
    across: Number.isFinite(float) ? [{ y: float, label: "float" }] : [] });
}

function columnsOf(found, metric) {
  const state = (trial) => stateOf(found, trial).replace("off", "–");
  const spread = (trial) => (trial.stderr ? ` ± ${digits(trial.stderr, 2)}` : "");
  return [
    word("plan", "plan", state),
    figure("cost", "cost", (v) => v.toFixed(3), { first: "up" }),
    { ...figure("score", metric, digits), show: (t) => `${digits(t.score)}${spread(t)}` },
    figure("macs", "quantized MACs %", percent, { of: (t) => t.quantized_macs }),
    figure("float", "nodes left float", String, { of: (t) => t.float.length }),
    word("holds", "within budget", (t) => (t.holds ? "yes" : "no")),
  ];
}
