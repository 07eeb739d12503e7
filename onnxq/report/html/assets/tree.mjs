// The tree of the model: what is in which folder, what leads where, and how large a box is.

import { plural } from "./numbers.mjs";

const ENDS = 4; // inputs or outputs that are drawn one by one
const MOST = 30; // letters of a name

// How wide a letter is, in pixels of the drawing.
export const LETTER = 6.7;

// {root, folders, leaves, inputs, outputs, edges} of things
// {key, kind, parent, children, nodes (indices in it), label}; an edge is {from, to, type}.
export function treeOf(data) {
  const thing = (key, kind, more) =>
    ({ key, kind, parent: null, children: [], nodes: [], ...more });
  const root = thing("root", "folder", { label: "" });
  const folders = data.folders.map(({ label, path }, i) =>
    thing(`f${i}`, "folder", { label, path }));
  const owner = (index) => (index < 0 ? root : folders[index]);
  folders.forEach((folder, i) => { folder.parent = owner(data.folders[i].parent); });
  const leaves = data.nodes.map((node, i) => thing(`n${i}`, "node", {
    index: i, parent: owner(node.folder), nodes: [i], label: node.label, op: node.op,
    shape: node.shape,
  }));
  const ends = (kind, values) => values.map((value, i) => thing(`${kind}${i}`, kind, {
    parent: root, label: value.name, ends: value.nodes, shape: value.shape,
  }));
  const inputs = ends("input", data.inputs), outputs = ends("output", data.outputs);
  for (const folder of folders) folder.parent.children.push(folder);
  for (const leaf of leaves) {
    leaf.parent.children.push(leaf);
    for (let up = leaf.parent; up; up = up.parent) up.nodes.push(leaf.index);
  }
  for (const folder of [root, ...folders]) folder.children.sort((a, b) => a.nodes[0] - b.nodes[0]);
  root.children.unshift(...gathered("inputs", inputs, root, folders));
  root.children.push(...gathered("outputs", outputs, root, folders));
  const edges = data.edges.map(([a, b, type]) => ({ from: leaves[a], to: leaves[b], type }));
  for (const end of inputs) for (const i of end.ends) edges.push({ from: end, to: leaves[i] });
  for (const end of outputs) for (const i of end.ends) edges.push({ from: leaves[i], to: end });
  return { root, folders, leaves, inputs, outputs, edges };
}

// Many inputs or outputs are in a folder of their own.
function gathered(name, ends, root, folders) {
  if (ends.length <= ENDS) return ends;
  const folder = { key: name, kind: "folder", parent: root, children: ends, nodes: [], label: name,
    path: name, count: plural(ends.length, name.slice(0, -1)) };
  for (const end of ends) end.parent = folder;
  folders.push(folder);
  return [folder];
}

// What stands for a thing when only the folders in `open` are: itself or the closed folder.
export function shownFor(thing, open) {
  let shown = thing;
  for (let up = thing.parent; up.parent; up = up.parent) if (!open.has(up.key)) shown = up;
  return shown;
}

export const sizeText = (folder) => folder.count || plural(folder.nodes.length, "node");

// The name of a node without its op type at the end, which stands above it.
export function captionOf(thing) {
  const parts = thing.label.split("/"), last = parts[parts.length - 1];
  const plain = last === thing.op || last.startsWith(`${thing.op}_`);
  return plain && parts.length > 1 ? parts.slice(0, -1).join("/") : thing.label;
}

const HEIGHTS = { folder: 44, node: 36 };

export function sizeOf(thing) {
  const folder = [`+ ${thing.label}`, sizeText(thing)];
  const words = thing.kind === "node" ? [thing.op, captionOf(thing)] : folder;
  const letters = Math.max(...words.map((word) => Math.min(word.length, MOST)));
  return { w: Math.max(64, letters * LETTER + 22), h: HEIGHTS[thing.kind] || 26 };
}

export const titleWidth = (folder) => Math.min(folder.label.length, MOST) * LETTER + 30;
