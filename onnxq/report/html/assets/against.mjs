// Another quantized model beside this one.

import { figure, named, word } from "./columns.mjs";
import { code, dim, el, section } from "./dom.mjs";
import { chip } from "./kinds.mjs";
import { decibels, number, plural } from "./numbers.mjs";
import { sortable } from "./table.mjs";

export function againstSection(data, bus) {
  const { names, facts, outputs, nodes } = data.against, [a, b] = names;
  const title = el("p", {}, code(a), " beside ", code(b));
  const index = new Map(data.nodes.map((node, i) => [node.name, i]));
  const onrow = (i) => {
    const place = index.get(nodes[i].name);
    if (place !== undefined) bus.node(place);
  };
  return section("against", "Side by side", title,
    sortable("facts", [word("what", "fact", (f) => f[0]), word("a", a, (f) => f[1]),
      word("b", b, (f) => f[2])], facts, { plain: true, noun: "fact" }),
    outputs.length ? [el("h3", {}, "SQNR of the outputs, dB"),
      sortable("against-outputs", outputColumns(a, b), outputs,
        { plain: true, noun: "output", page: 100, sort: "change", down: false })] : null,
    el("h3", {}, "Nodes of another precision"),
    nodes.length ? sortable("against-nodes", nodeColumns(a, b, nodes), nodes,
      { noun: "node", hint: "Find a node", page: 12, onrow })
      : dim(`All ${plural(data.nodes.length, "node")} have the same in both.`));
}

function outputColumns(a, b) {
  const change = (o) => number(o.b) - number(o.a);
  const signed = (v) => (v > 0 ? `+${decibels(v)}` : decibels(v));
  return [named("output"), figure("a", a, decibels, { first: "up" }),
    figure("b", b, decibels, { first: "up" }),
    figure("change", "change", signed, { of: change, first: "up" })];
}

function nodeColumns(a, b, nodes) {
  const ran = nodes.some((n) => n.a && n.a.ran);
  const column = (key, name) => ({ ...word(key, name, (n) => n[key] && n[key].precision),
    show: (n) => (n[key] ? chip(n[key]) : "no such node") });
  return [named("node"), column("a", a),
    ...(ran ? [word("ran", "ran in", (n) => n.a && n.a.ran)] : []), column("b", b)];
}
