// The other sections: summary, nodes, sensitivity, search, comparison, engine, provenance.

function summarySection(data) {
  const cards = data.summary.map((card) => el("div", { class: `card ${card.state}` },
    el("div", { class: "card-label" }, card.label), el("div", { class: "card-value" }, card.value), el("div", { class: "card-note" }, breakable(card.note))));
  const failures = ((data.comparison || {}).failures || []).map((line) => el("p", { class: "failed" }, `Failed: ${line}`));
  const notes = [...((data.comparison || {}).notes || []), ...data.provenance.notes].map((note) => el("li", {}, breakable(note)));
  const outputs = data.comparison ? null : data.agreement && agreementTable(data.agreement);
  return section("summary", "Summary", el("div", { class: "cards" }, cards), failures, outputs,
    notes.length ? el("details", { open: notes.length < 4 }, el("summary", {}, plural(notes.length, "note")), el("ul", { class: "notes" }, notes)) : null);
}

const FIGURES = {
  sqnr_db: ["SQNR, dB", decibels], psnr_db: ["PSNR, dB", decibels], cosine: ["cosine", (v) => number(v).toFixed(5)],
  mean_abs: ["mean |difference|", (v) => digits(v, 3)], max_abs: ["largest |difference|", (v) => digits(v, 3)], top1_agreement: ["same top class, %", percent], equal: ["equal, %", percent],
};

function agreementTable(found) {
  const keys = Object.keys(FIGURES).filter((key) => found.outputs.some((output) => output[key] !== undefined));
  const columns = [{ key: "name", name: "output", value: (o) => o.name, search: (o) => o.name, show: (o) => el("code", {}, breakable(o.name)) },
    ...keys.map((key) => ({ key, name: FIGURES[key][0], numeric: true, first: "up", value: (o) => number(o[key]), show: (o) => (o[key] === undefined ? "" : FIGURES[key][1](o[key])) }))];
  return el("details", { open: found.outputs.length <= 12 }, el("summary", {}, `${plural(found.outputs.length, "output")}, float against quantized on ${plural(found.samples, "sample")}`),
    sortable("outputs", columns, found.outputs, { noun: "output", plain: true, page: 100 }));
}

function nodesSection(data, bus) {
  const has = (key) => data.nodes.some((node) => node[key] !== undefined);
  const order = (node) => (node.kind === "none" ? "~" : "") + node.precision;
  const ends = (key) => (node) => node[key] && node[key][1];
  const figure = (key, name, title, show, first) => has(key) && { key, name, title, numeric: true, first, value: (n) => (n[key] === undefined ? undefined : number(n[key])), show: (n) => show(n[key]) };
  const columns = [
    { key: "name", name: "node", value: (n) => n.name, search: (n) => n.name, show: (n) => el("code", {}, breakable(n.name)) },
    { key: "op", name: "op", short: true, value: (n) => n.op, search: (n) => n.op, show: (n) => n.op },
    { key: "precision", name: "precision", value: order, search: (n) => n.precision, show: (n) => chip(n) },
    { key: "why", name: "why", value: (n) => n.why, search: (n) => n.why, show: (n) => n.why },
    figure("share", "damage %", "Share of the damage that quantizing does, by the ranking", percent),
    figure("input_sqnr", "input dB", "Expected SQNR of the worst quantized input, read off its histogram", decibels, "up"),
    figure("node_sqnr", "node dB", "Measured SQNR of what the node writes", decibels, "up"),
    figure("sat_ratio", "clipped %", "Share of the values of its inputs beyond their range", percent),
    has("scale") && { key: "scale", name: "input scale", numeric: true, value: ends("scale"), show: (n) => interval(n.scale) },
    has("weight_scale") && { key: "weight_scale", name: "weight scale", numeric: true, value: ends("weight_scale"), show: (n) => interval(n.weight_scale) },
    has("engine") && { key: "engine", name: "engine", short: true, value: (n) => n.engine, search: (n) => n.engine || "", show: (n) => (n.engine ? text(n.engine === n.meant ? "" : "bad", n.engine) : "") },
    has("ms") && { key: "ms", name: "ms", short: true, numeric: true, value: (n) => n.ms, show: (n) => (typeof n.ms === "number" ? n.ms.toFixed(4) : "") },
  ].filter(Boolean);
  const table = sortable("nodes", columns, data.nodes, { noun: "node", hint: "Find nodes: name, op, precision, reason", onrow: (i) => bus.node(i), sort: has("share") ? "share" : null });
  return section("nodes", "Nodes", table);
}

function sensitivitySection(data, bus) {
  const found = data.sensitivity, longest = Math.max(1e-9, ...found.rows.map((row) => row.share + (row.spread || 0)));
  const index = new Map(data.nodes.map((node, i) => [node.name, i]));
  const rows = found.rows.map((row) => ({
    name: row.name, value: row.share / longest, spread: row.spread ? row.spread / longest : 0,
    note: `${percent(row.share)} %${row.spread ? ` ± ${digits(100 * row.spread, 2)}` : ""} · ${digits(row.score)}${found.unit ? ` ${found.unit}` : ""} · #${row.rank}${row.tied ? "=" : ""}`,
    onclick: index.has(row.nodes[0] || row.name) ? () => bus.node(index.get(row.nodes[0] || row.name)) : null,
  }));
  const done = found.mode === "one-on" ? "quantized alone" : "alone left float";
  const scores = [["float", found.float_score], ["all quantized", found.quantized_score]].filter(([, score]) => score !== null && score !== undefined).map(([name, score]) => `; ${name}: ${digits(score)}${found.unit ? ` ${found.unit}` : ""}`);
  const points = found.curve.map(([count, score]) => ({ x: count, y: number(score), title: `${count} left float: ${digits(score)}` }));
  return section("sensitivity", "Sensitivity",
    el("p", { class: "dim" }, `Share of the damage of each ${found.granularity} ${done}, by ${found.metric} at the ${found.at === "outputs" ? "outputs" : "node"} over ${plural(found.samples, "sample")}${scores.join("")}. Beside the bar: share, score, rank (= for ranks that the samples cannot tell apart).`),
    bars("sensitivity-bars", rows, 20),
    points.length ? [el("h3", {}, "With the worst left float"), chart({ id: "curve", title: "Score with the worst left float", x: "worst left float", y: `${found.metric} ${found.unit}`, marks: [{ points, line: true }] })] : null);
}

function searchSection(data) {
  const found = data.search, point = (trial, i) => ({ x: trial.cost, y: number(trial.score), error: trial.stderr || 0, className: i === found.chosen ? "chosen" : trial.front ? "front" : "off",
    title: `cost ${digits(trial.cost)}, ${found.metric} ${digits(trial.score)}, ${trial.float.length} nodes left float` });
  const points = found.trials.map(point), front = points.filter((p, i) => found.trials[i].front).sort((a, b) => a.x - b.x);
  const reference = number(found.float_score);
  const columns = [
    { key: "plan", name: "plan", value: (t) => (found.trials.indexOf(t) === found.chosen ? "chosen" : t.front ? "front" : "–"), show: (t) => (found.trials.indexOf(t) === found.chosen ? "chosen" : t.front ? "front" : "–") },
    { key: "cost", name: "cost", numeric: true, first: "up", value: (t) => t.cost, show: (t) => t.cost.toFixed(3) },
    { key: "score", name: `${found.metric} ${found.unit}`.trim(), numeric: true, value: (t) => number(t.score), show: (t) => `${digits(t.score)}${t.stderr ? ` ± ${digits(t.stderr, 2)}` : ""}` },
    { key: "macs", name: "quantized MACs %", numeric: true, value: (t) => t.quantized_macs, show: (t) => percent(t.quantized_macs) },
    { key: "float", name: "nodes left float", numeric: true, value: (t) => t.float.length, show: (t) => String(t.float.length) },
    { key: "holds", name: "within budget", value: (t) => (t.holds ? "yes" : "no"), show: (t) => (t.holds ? "yes" : "no") },
  ];
  return section("search", "Search",
    el("p", { class: "dim" }, `Every plan that was measured, on ${plural(found.samples, "sample")}: cost (${found.cost}; the float model is 1) against ${found.metric}. The line joins plans that no other beats in both. Budget: ${found.budget}.`),
    chart({ id: "pareto", title: "Cost against score", x: `cost (${found.cost})`, y: `${found.metric} ${found.unit}`, height: 320, marks: [{ points: front, line: true, className: "front", radius: 0 }, { points, radius: 5 }], across: Number.isFinite(reference) ? [{ y: reference, label: "float" }] : [] }),
    el("p", { class: "legend" }, el("span", { class: "key front" }), "front ", el("span", { class: "key chosen" }), "chosen ", el("span", { class: "key off" }), "measured"),
    sortable("trials", columns, found.trials, { noun: "plan", plain: true, sort: "cost", down: false }));
}

function comparisonSection(data) {
  const found = data.comparison, points = found.tensors.map((tensor, i) => ({ x: i + 1, y: number(tensor.sqnr_db), title: `${tensor.name}: ${decibels(tensor.sqnr_db)} dB`, className: tensor.name === found.first_offender ? "chosen" : "" }));
  const columns = [{ key: "name", name: "tensor", value: (t) => t.name, search: (t) => t.name, show: (t) => el("code", {}, breakable(t.name)) },
    { key: "sqnr", name: "SQNR, dB", numeric: true, first: "up", value: (t) => number(t.sqnr_db), show: (t) => decibels(t.sqnr_db) },
    { key: "cosine", name: "cosine", numeric: true, first: "up", value: (t) => number(t.cosine), show: (t) => number(t.cosine).toFixed(5) }];
  return section("comparison", "Comparison", agreementTable(found),
    points.length ? [el("h3", {}, "Through the graph"), el("p", { class: "dim" }, "SQNR of each tensor that both graphs have, from the inputs to the outputs. ", found.first_offender ? ["Largest drop: ", el("code", {}, breakable(found.first_offender))] : ""),
      chart({ id: "drift", title: "SQNR through the graph", x: "tensor, in graph order", y: "SQNR, dB", marks: [{ points, line: true, radius: 2.5 }] }),
      sortable("compared", columns, found.tensors, { noun: "tensor", hint: "Find a tensor", page: 12, sort: "sqnr", down: false })] : null);
}

function time(rows) {
  const known = (rows || []).some((row) => typeof row.ms === "number");
  return known ? [{ key: "ms", name: "ms", numeric: true, value: (row) => (row.ms === null ? undefined : row.ms), show: (row) => (typeof row.ms === "number" ? row.ms.toFixed(4) : "") }] : [];
}

function fleetSection(data) {
  const found = data.fleet;
  const word = (key, name) => ({ key, name, value: (c) => c[key], search: (c) => c[key], show: (c) => (key === "state" ? text(c.state === "refused" ? "bad" : "", c.state) : breakable(c[key] || "")) });
  const number = (key, name, show) => ({ key, name, numeric: true, value: (c) => (c[key] === null ? undefined : c[key]), show: (c) => (c[key] === null ? "" : show(c)) });
  const columns = [word("arch", "architecture"), word("device", "GPU"), word("form", "form"), word("state", "state"),
    number("covered", "as meant", (c) => `${c.covered} of ${c.meant}`), number("kernels", "kernels", (c) => String(c.kernels)),
    number("moved", "MB moved", (c) => (c.moved / 1e6).toFixed(1)), word("why", "why")];
  return section("fleet", "Every GPU", el("p", {}, found.ok ? "No GPU refuses it." : "Some refuse it."),
    sortable("fleet", columns, found.cells, { noun: "build", hint: "Find a GPU", page: 24 }));
}

function engineSection(data, bus) {
  const found = data.engine, build = found.build, verdict = found.verdict;
  const list = (title, lines) => (lines.length ? [el("h3", {}, title), el("ul", {}, lines.map((line) => el("li", {}, breakable(line))))] : null);
  const index = new Map(data.nodes.map((node, i) => [node.name, i]));
  const word = (key, name) => ({ key, name, value: (n) => n[key], search: (n) => n[key], show: (n) => n[key] });
  const parts = [build.backend && `by ${build.backend} ${build.version}`, build.arch && `for ${build.arch}`];
  const size = build.bytes ? `: ${(build.bytes / 1e6).toFixed(2)} MB${build.seconds ? ` in ${digits(build.seconds, 3)} s` : ""}` : "";
  const where = `${parts.filter(Boolean).join(" ")}${size}`;
  const kernels = [{ key: "name", name: "kernel", value: (k) => k.name, search: (k) => k.name, show: (k) => el("code", {}, breakable(k.name || "–")) },
    word("kind", "kind"), word("types", "types"),
    { key: "bytes", name: "MB read and written", numeric: true, value: (k) => (k.bytes === null ? undefined : k.bytes), show: (k) => (k.bytes === null ? "" : (k.bytes / 1e6).toFixed(3)) },
    ...time(found.listing),
    { key: "layers", name: "nodes in it", value: (k) => k.layers.length, search: (k) => k.layers.join(" "), show: (k) => breakable(k.layers.join(", ")) }];
  const columns = [{ key: "name", name: "node", value: (n) => n.name, search: (n) => n.name, show: (n) => el("code", {}, breakable(n.name)) },
    word("meant", "meant"), { key: "real", name: "runs in", value: (n) => n.real, search: (n) => `${n.real} ${n.missed ? "missed" : ""}`, show: (n) => text(n.missed ? "bad" : "", n.real) }, word("kernel", "kernel"), ...time(found.nodes),
    { key: "fused", name: "fused with", value: (n) => n.fused.length, search: (n) => n.fused.join(" "), show: (n) => breakable(n.fused.join(", ")) }];
  const readable = verdict && verdict.readable;
  return section("engine", "Engine", el("p", {}, `${found.ok ? "Built" : "Refused"} ${where}.`),
    list("Why", found.problems), list("What explains it", found.explained), list("It builds without these Q/DQ", found.remove),
    verdict && !readable ? el("p", {}, `What runs in INT8 is unknown: ${verdict.reason}.`) : null,
    readable ? [
      el("p", {}, `${verdict.covered} of ${verdict.meant} nodes with Q/DQ run as meant. ${plural(verdict.kernels, "kernel")}: ${verdict.quantize_kernels} only quantize, ${verdict.move_kernels} only move data${verdict.bytes_moved ? `; ${(verdict.bytes_moved / 1e6).toFixed(1)} MB moved` : ""}.`),
      sortable("kinds", [word("meant", "meant"), { key: "real", name: "runs in", value: (k) => k.real, show: (k) => k.real }, word("kernel", "kernel"), { key: "nodes", name: "nodes", numeric: true, value: (k) => k.nodes, show: (k) => String(k.nodes) }], found.kinds, { plain: true, noun: "kernel" }),
      sortable("engine-nodes", columns, found.nodes, { noun: "node", hint: "Find a node; \"missed\" for those not as meant", page: 12, onrow: (i) => index.has(found.nodes[i].name) && bus.node(index.get(found.nodes[i].name)) }),
      found.listing ? [el("h3", {}, "Kernels"), sortable("kernels", kernels, found.listing, { noun: "kernel", hint: "Find a kernel or a node in it", page: 12, sort: "bytes" })] : null,
    ] : null);
}
