// What is known of one node.

import { breakable, button, code, el, pairs, text } from "./dom.mjs";
import { chip } from "./kinds.mjs";
import { decibels, digits, interval, percent } from "./numbers.mjs";

const NEAR = 8; // neighbours that are listed

export function detailsOf(index, data, bus) {
  const node = data.nodes[index];
  const before = data.edges.filter((edge) => edge[1] === index).map((edge) => edge[0]);
  const after = data.edges.filter((edge) => edge[0] === index).map((edge) => edge[1]);
  const facts = [
    ["op", node.op],
    ["precision", [chip(node), " ", node.told || node.why]],
    node.share !== undefined && ["damage", damageOf(node)],
    node.input_sqnr !== undefined && ["its input", `${decibels(node.input_sqnr)} dB expected`],
    node.weight_sqnr !== undefined && ["its weights",
      `${decibels(node.weight_sqnr)} dB after rounding`],
    node.node_sqnr !== undefined && ["its output", `${decibels(node.node_sqnr)} dB measured`],
    node.engine && ["engine", engineOf(node)],
    ...(node.reads || []).map((read) => [`input ${read.input}`, readOf(read, data, bus)]),
    ["reads from", neighbours([...new Set(before)], data, bus)],
    ["read by", neighbours([...new Set(after)], data, bus)],
    ["writes", [(node.outputs || []).map(code), node.shape && text("dim", ` ${node.shape}`)]],
  ].filter(Boolean);
  return el("div", { class: "details" },
    el("h3", {}, code(node.name),
      button("×", () => bus.close(), { class: "plain", "aria-label": "Close the details" })),
    pairs(facts));
}

function damageOf(node) {
  const unit = node.unit ? `, its part of ${node.unit}` : "";
  const score = node.score !== undefined ? `; score ${digits(node.score)}` : "";
  return `${percent(node.share)} % of all${unit}${score}`;
}

function engineOf(node) {
  const fused = node.fused ? ["; fused with ", breakable(node.fused.join(", "))] : "";
  return [`runs in ${node.engine}, meant ${node.meant}`, fused];
}

function readOf(read, data, bus) {
  const several = read.scales > 1 ? ` (${read.scales} of them)` : "";
  const scale = read.scale ? `scale ${interval(read.scale)}${several}` : "computed scale";
  const tensor = read.place === undefined ? null : data.tensors[read.place];
  const used = tensor && tensor.used;
  return [
    `${read.kind}, ${read.type}, ${scale}`,
    used && `, amax ${digits(used.amax)}, ${percent(used.sat_ratio)} % clipped`, ": ",
    code(read.tensor), " ",
    tensor && button("histogram", () => bus.tensor(read.place, true),
      { class: "plain", "aria-label": `histogram of ${tensor.name}` }),
  ];
}

function neighbours(indices, data, bus) {
  if (!indices.length) return text("dim", "no other node");
  const shown = indices.slice(0, NEAR).map((i) =>
    button(breakable(data.nodes[i].name), () => bus.node(i), { class: "plain name" }));
  const more = indices.length - NEAR;
  return [shown, more > 0 ? text("dim", ` and ${more} more`) : null];
}
