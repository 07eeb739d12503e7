// The table of all nodes.

import { figure, named, word } from "./columns.mjs";
import { section, text } from "./dom.mjs";
import { chip } from "./kinds.mjs";
import { decibels, interval, percent } from "./numbers.mjs";
import { sortable } from "./table.mjs";

const SHARE = { title: "Share of the damage that quantizing does, by the ranking" };
const INPUT = { title: "Expected SQNR of the worst quantized input, read off its histogram",
  first: "up" };
const WEIGHT = { title: "SQNR of the rounded weights against the float ones", first: "up" };
const NODE = { title: "Measured SQNR of what the node writes", first: "up" };
const CLIPPED = { title: "Share of the values of its inputs beyond their range" };

export function nodesSection(data, bus) {
  const has = (key) => data.nodes.some((node) => node[key] !== undefined);
  const columns = [
    named("node"), word("op", "op", (n) => n.op, { width: "short" }),
    { key: "precision", name: "precision", search: (n) => n.precision, show: chip,
      value: (n) => (n.kind === "none" ? "~" : "") + n.precision },
    word("why", "why", (n) => n.why, { width: "long" }),
    has("share") && figure("share", "damage %", percent, SHARE),
    has("input_sqnr") && figure("input_sqnr", "input dB", decibels, INPUT),
    has("weight_sqnr") && figure("weight_sqnr", "weight dB", decibels, WEIGHT),
    has("node_sqnr") && figure("node_sqnr", "node dB", decibels, NODE),
    has("sat_ratio") && figure("sat_ratio", "clipped %", percent, CLIPPED),
    has("scale") && scales("scale", "input scale"),
    has("weight_scale") && scales("weight_scale", "weight scale"),
    has("engine") && word("engine", "engine", (n) => n.engine, { width: "short", show: runsIn }),
    has("ms") && figure("ms", "ms", (v) => v.toFixed(4)),
  ].filter(Boolean);
  const table = sortable("nodes", columns, data.nodes, { noun: "node",
    hint: "Find nodes: name, op, precision, reason", onrow: (i) => bus.node(i),
    sort: has("share") ? "share" : null });
  return section("nodes", "Nodes", table);
}

const runsIn = (n) => (n.engine ? text(n.engine === n.meant ? "" : "bad", n.engine) : "");

// From the least to the largest, sorted by that.
function scales(key, name) {
  return { key, name, numeric: true, value: (n) => n[key] && n[key][1],
    show: (n) => interval(n[key]) };
}
