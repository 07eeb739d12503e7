// What is known of one node.

const NEAR = 8; // neighbours that are listed

function detailsOf(index, data, bus) {
  const node = data.nodes[index];
  const facts = [
    ["op", node.op],
    ["precision", [chip(node), " ", node.told || node.why]],
    node.share !== undefined && ["damage", `${percent(node.share)} % of all${node.unit ? `, its part of ${node.unit}` : ""}${node.score !== undefined ? `; score ${digits(node.score)}` : ""}`],
    node.input_sqnr !== undefined && ["its input", `${decibels(node.input_sqnr)} dB expected`],
    node.node_sqnr !== undefined && ["its output", `${decibels(node.node_sqnr)} dB measured`],
    node.engine && ["engine", [`runs in ${node.engine}, meant ${node.meant}`, node.fused ? ["; fused with ", breakable(node.fused.join(", "))] : ""]],
    ...(node.reads || []).map((read) => [`input ${read.input}`, readOf(read, data, bus)]),
    ["reads from", neighbours(data.edges.filter(([, b]) => b === index).map(([a]) => a), data, bus)],
    ["read by", neighbours(data.edges.filter(([a]) => a === index).map(([, b]) => b), data, bus)],
    ["writes", (node.outputs || []).map((name) => el("code", {}, breakable(name)))],
  ].filter(Boolean);
  return el("div", { class: "details" },
    el("h3", {}, el("code", {}, breakable(node.name)), button("×", "Close", () => document.getElementById("details").replaceChildren(), { class: "plain" })),
    el("dl", {}, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}

function readOf(read, data, bus) {
  const scale = read.scale ? `scale ${interval(read.scale)}${read.scales > 1 ? ` (${read.scales} of them)` : ""}` : "computed scale";
  const tensor = read.place === undefined ? null : data.tensors[read.place];
  const used = tensor && tensor.used;
  return [
    `${read.kind}, ${read.type}, ${scale}`,
    used && `, amax ${digits(used.amax)}, ${percent(used.sat_ratio)} % clipped`, ": ",
    el("code", {}, breakable(read.tensor)), " ",
    tensor && button("histogram", `Histogram of ${tensor.name}`, () => bus.tensor(read.place, true), { class: "plain" }),
  ];
}

function neighbours(indices, data, bus) {
  if (!indices.length) return text("dim", "no other node");
  const shown = indices.slice(0, NEAR).map((i) => button(data.nodes[i].name, `Go to ${data.nodes[i].name}`, () => bus.node(i), { class: "plain name" }));
  return [shown, indices.length > NEAR ? text("dim", ` and ${indices.length - NEAR} more`) : null];
}
