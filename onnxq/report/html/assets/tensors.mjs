// The tensors: a table of their ranges, and one of them drawn.

import { figure, named, word } from "./columns.mjs";
import { code, dim, el, section } from "./dom.mjs";
import { histogramChart, METHOD_CLASS } from "./histogram.mjs";
import { decibels, digits, number, percent } from "./numbers.mjs";
import { scrolling, sortable } from "./table.mjs";

const DRAWN = "What each range clips and rounds away: SQNR and mean squared error that the"
  + " calibration's histograms foretell. Choose a tensor to see it; each method reads the tensor's"
  + " own values, where the used range may be shared with others.";
const PLAIN = "The range of each tensor, what it clips, and the error it is expected to make.";
const MISSING = "Give the statistics (--stats) to see histograms and what other methods read off"
  + " them.";

export function tensorsSection(data) {
  const view = el("div", { id: "tensor", "aria-live": "polite" });
  const drawn = data.tensors.some((tensor) => tensor.histogram);
  const has = (key) => data.tensors.some((t) => t.used && t.used[key] !== undefined);
  function show(place, scroll) {
    view.replaceChildren(...shownOf(data.tensors[place], drawn));
    if (scroll) made.scrollIntoView({ block: "start" });
  }
  const table = sortable("tensors", columnsOf(has, drawn), data.tensors, {
    noun: "tensor", hint: "Find a tensor", onrow: (i) => show(i, true), page: 12,
    sort: has("sqnr") ? "sqnr" : "sat", down: !has("sqnr"),
  });
  const made = section("tensors", "Tensors", dim(drawn ? DRAWN : PLAIN), view, table);
  const quality = ({ used }) => (used && used.sqnr !== undefined ? number(used.sqnr) : Infinity);
  const worst = data.tensors.reduce((a, t, i) =>
    (quality(t) < quality(data.tensors[a]) ? i : a), 0);
  show(worst);
  return { made, show };
}

function columnsOf(has, drawn) {
  const used = (key) => (t) => (t.used ? t.used[key] : undefined);
  const alone = { title: "The method with the least error on this tensor alone" };
  return [
    named("tensor"),
    word("type", "type", (t) => t.type),
    has("amax") && figure("amax", "amax", digits, { of: used("amax") }),
    has("sat_ratio") && figure("sat", "clipped %", percent, { of: used("sat_ratio") }),
    has("expected_error")
      && figure("mse", "expected MSE", (v) => digits(v, 3), { of: used("expected_error") }),
    has("sqnr")
      && figure("sqnr", "expected SQNR, dB", decibels, { of: used("sqnr"), first: "up" }),
    drawn && word("best", "best alone", bestOf, alone),
  ].filter(Boolean);
}

function bestOf(tensor) {
  const known = (tensor.readings || []).filter((r) => Number.isFinite(number(r.sqnr)));
  const better = (a, b) => (number(b.sqnr) > number(a.sqnr) ? b : a);
  return known.length ? known.reduce(better).method : undefined;
}

function shownOf(tensor, drawn) {
  const title = el("h3", {}, code(tensor.name), tensor.type ? ` ${tensor.type}` : "");
  if (tensor.histogram) {
    return [title, el("div", { class: "beside" }, histogramChart(tensor), readingsTable(tensor))];
  }
  const used = tensor.used;
  const words = used ? `amax ${digits(used.amax)} by ${used.method}, ${percent(used.sat_ratio)} % `
    + `clipped, mean squared error ${digits(used.expected_error, 3)}.` : "No range is known.";
  return [title, el("p", {}, words), ...(drawn ? [] : [dim(MISSING)])];
}

function readingsTable(tensor) {
  const rows = tensor.readings.map((r) =>
    ({ ...r, name: r.method, className: METHOD_CLASS[r.method] }));
  const used = tensor.used;
  if (used) rows.unshift({ ...used, name: `used: ${used.method}`, className: "m-used" });
  const known = rows.map((r) => number(r.sqnr)).filter((v) => !Number.isNaN(v));
  const best = Math.max(...known);
  const head = ["method", "amax", "SQNR, dB", "MSE", "clipped %"].map((name, k) =>
    el("th", { scope: "col", class: k ? "number" : "" }, name));
  const cell = (value) => el("td", { class: "number" }, value);
  const body = rows.map((r) => el("tr", { class: number(r.sqnr) === best ? "best" : "" },
    el("th", { scope: "row" }, el("span", { class: `key ${r.className}` }), r.name),
    cell(r.low !== undefined ? `${digits(r.low)} – ${digits(r.high)}` : digits(r.amax)),
    cell(decibels(r.sqnr)), cell(digits(r.expected_error, 3)), cell(percent(r.sat_ratio))));
  const table = el("table", { class: "readings", id: "readings" },
    el("thead", {}, el("tr", {}, head)), el("tbody", {}, body));
  return scrolling("What each method reads off it", table);
}
