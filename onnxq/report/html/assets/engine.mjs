// What was built, and what each node runs in.

import { figure, named, word } from "./columns.mjs";
import { breakable, bullets, el, section, text } from "./dom.mjs";
import { digits, plural } from "./numbers.mjs";
import { sortable } from "./table.mjs";

const MB = 1e6;

export function engineSection(data, bus) {
  const found = data.engine, verdict = found.verdict;
  const list = (title, lines) => (lines.length ? [el("h3", {}, title), bullets(lines)] : null);
  return section("engine", "Engine",
    el("p", {}, `${found.ok ? "Built" : "Refused"} ${builtOf(found.build)}.`),
    list("Why", found.problems), list("What explains it", found.explained),
    list("It builds without these Q/DQ", found.remove),
    verdict && (verdict.readable ? runsOf(data, bus)
      : el("p", {}, `What runs in INT8 is unknown: ${verdict.reason}.`)));
}

function builtOf(build) {
  const parts = [build.backend && `by ${build.backend} ${build.version}`,
    build.arch && `for ${build.arch}`];
  const seconds = build.seconds ? ` in ${digits(build.seconds, 3)} s` : "";
  const size = build.bytes ? `: ${(build.bytes / MB).toFixed(2)} MB${seconds}` : "";
  return `${parts.filter(Boolean).join(" ")}${size}`;
}

function runsOf(data, bus) {
  const found = data.engine, verdict = found.verdict;
  const index = new Map(data.nodes.map((node, i) => [node.name, i]));
  const moved = verdict.bytes_moved ? `; ${(verdict.bytes_moved / MB).toFixed(1)} MB moved` : "";
  const told = `${verdict.covered} of ${verdict.meant} nodes with Q/DQ run as meant. `
    + `${plural(verdict.kernels, "kernel")}: ${verdict.quantize_kernels} only quantize, `
    + `${verdict.move_kernels} only move data${moved}.`;
  const types = [word("meant", "meant"), word("real", "runs in"), word("kernel", "kernel")];
  const onrow = (i) => {
    const place = index.get(found.nodes[i].name);
    if (place !== undefined) bus.node(place);
  };
  return [
    el("p", {}, told),
    sortable("kinds", [...types, figure("nodes", "nodes", String)], found.kinds,
      { plain: true, noun: "kernel" }),
    sortable("engine-nodes", nodeColumns(found.nodes), found.nodes, { noun: "node", page: 12, onrow,
      hint: "Find a node; \"missed\" for those not as meant" }),
    found.listing ? [el("h3", {}, "Kernels"), sortable("kernels",
      kernelColumns(found.listing), found.listing,
      { noun: "kernel", hint: "Find a kernel or a node in it", page: 12, sort: "bytes" })] : null,
  ];
}

// How long a row takes, where that is known.
function timeOf(rows) {
  const known = (rows || []).some((row) => typeof row.ms === "number");
  return known ? [figure("ms", "ms", (v) => v.toFixed(4))] : [];
}

const several = (key, name) => ({ key, name, value: (row) => row[key].length,
  search: (row) => row[key].join(" "), show: (row) => breakable(row[key].join(", ")) });

function nodeColumns(rows) {
  const real = { search: (n) => `${n.real} ${n.missed ? "missed" : ""}`,
    show: (n) => text(n.missed ? "bad" : "", n.real) };
  return [named("node"), word("meant", "meant"), word("real", "runs in", (n) => n.real, real),
    word("kernel", "kernel"), ...timeOf(rows), several("fused", "fused with")];
}

function kernelColumns(rows) {
  return [named("kernel"), word("kind", "kind"), word("types", "types"),
    figure("bytes", "MB read and written", (v) => (v / MB).toFixed(3)),
    ...timeOf(rows), several("layers", "nodes in it")];
}
