// Where everything stands: open folders as frames around what is in them, closed ones as boxes.
//
// An edge that leaves a frame leaves it through a port on its lower side, one that enters comes
// through a port on its upper side; there is one for each node that it comes from. So an edge
// is a chain of links, one in each frame, and edges from one node share the links they can.

import { layered } from "./layered.mjs";
import { shownFor, sizeOf, titleWidth } from "./tree.mjs";

const PAD = 12, LETTER = 5; // of a shape, in width
export const BESIDE = 4; // from an edge to what is told of it
export const TITLE = 24; // of a frame, in height

// The scene in absolute places: {frames, boxes, links, w, h}; pairs of boxes {from, to, shapes,
// types} that an edge joins. aspect: width by height of where it is drawn.
export function scene(tree, open, aspect) {
  const cells = new Map(); // of frames: their inner boxes, links and ports
  const state = {
    aspect,
    isFrame: (thing) => thing === tree.root || (thing.kind === "folder" && open.has(thing.key)),
    cellOf: (folder) => {
      if (!cells.has(folder)) cells.set(folder, { boxes: [], at: new Map(), links: new Map() });
      return cells.get(folder);
    },
  };
  collect(tree.root, state);
  const pairs = pairsOf(tree, open);
  for (const { from, to } of pairs) chain(from, to, state.cellOf);
  state.told = leaving(pairs);
  const size = arrange(tree.root, state);
  const drawn = { frames: [], boxes: [], links: [], pairs, ...size };
  flatten(tree.root, state, 0, 0, drawn);
  return drawn;
}

// What is drawn as one edge: of the boxes that are shown, with the shapes and types of all in it.
function pairsOf(tree, open) {
  const pairs = new Map();
  for (const edge of tree.edges) {
    const from = shownFor(edge.from, open), to = shownFor(edge.to, open);
    if (from === to) continue;
    const key = `${from.key}>${to.key}`;
    if (!pairs.has(key)) pairs.set(key, { from, to, shapes: new Set(), types: new Set() });
    if (edge.from.shape) pairs.get(key).shapes.add(edge.from.shape);
    for (const type of (edge.type || "").split(", ")) if (type) pairs.get(key).types.add(type);
  }
  return [...pairs.values()];
}

// What leaves each box: its shape, and the types in which it is read, where they are few.
function leaving(pairs) {
  const found = new Map();
  for (const { from, shapes, types } of pairs) {
    if (!found.has(from)) found.set(from, { shapes: new Set(), types: new Set() });
    for (const shape of shapes) found.get(from).shapes.add(shape);
    for (const type of types) found.get(from).types.add(type);
  }
  return new Map([...found].map(([thing, { shapes, types }]) => {
    const shape = shapes.size === 1 ? [...shapes][0] : `${shapes.size} shapes`;
    const several = types.size > 2 ? "" : ` ${[...types].join(", ")}`;
    return [thing, shapes.size ? `${shape}${several}`.trim() : ""];
  }));
}

function collect(folder, state) {
  const cell = state.cellOf(folder);
  for (const child of folder.children) {
    addBox(cell, child.key, { thing: child, w: 0, h: 0 });
    if (state.isFrame(child)) collect(child, state);
  }
}

function addBox(cell, key, box) {
  if (!cell.at.has(key)) {
    cell.at.set(key, cell.boxes.length);
    cell.boxes.push(box);
  }
  return cell.at.get(key);
}

function ancestors(thing) {
  const found = [];
  for (let up = thing.parent; up; up = up.parent) found.push(up);
  return found;
}

function chain(from, to, cellOf) {
  const above = ancestors(from), below = ancestors(to);
  const outer = (found) => found[found.length - 2];
  while (above.length > 1 && below.length > 1 && outer(above) === outer(below)) {
    above.pop();
    below.pop();
  }
  const meet = above.pop();
  below.pop();
  const link = (folder, a, b) => {
    const links = cellOf(folder).links, id = `${a.key}${a.port || ""}>${b.key}${b.port || ""}`;
    if (!links.has(id)) links.set(id, { a, b, sources: new Set(), targets: new Set() });
    links.get(id).sources.add(from.key);
    links.get(id).targets.add(to.key);
  };
  let start = { key: from.key };
  for (const frame of above) {
    const port = `out:${from.key}`;
    addBox(cellOf(frame), port, { port, pin: "bottom", w: 2, h: 0 });
    link(frame, start, { key: port });
    start = { key: frame.key, port };
  }
  const inner = [];
  let end = { key: to.key };
  for (const frame of below) {
    const port = `in:${from.key}`;
    addBox(cellOf(frame), port, { port, pin: "top", w: 2, h: 0 });
    inner.push([frame, { key: port }, end]);
    end = { key: frame.key, port };
  }
  link(meet, start, end);
  for (const [frame, a, b] of inner) link(frame, a, b);
}

function arrange(folder, state) {
  const cell = state.cellOf(folder);
  for (const box of cell.boxes) {
    if (!box.thing) continue;
    if (state.isFrame(box.thing)) Object.assign(box, arrange(box.thing, state));
    else {
      const told = state.told.get(box.thing) || "", size = sizeOf(box.thing);
      Object.assign(box, size, { told, reach: size.w / 2 + BESIDE + told.length * LETTER });
    }
  }
  const place = (end) => {
    const box = cell.boxes[cell.at.get(end.key)];
    if (!end.port) return box.w / 2;
    const inner = state.cellOf(box.thing);
    return PAD + inner.boxes[inner.at.get(end.port)].x + 1;
  };
  const links = [...cell.links.values()];
  for (const link of links) {
    Object.assign(link, { from: cell.at.get(link.a.key), to: cell.at.get(link.b.key) });
    Object.assign(link, { out: place(link.a), into: place(link.b) });
  }
  const size = layered(cell.boxes, links, state.aspect);
  return { w: Math.max(size.w, titleWidth(folder)) + 2 * PAD, h: size.h + TITLE + PAD };
}

function flatten(folder, state, x, y, drawn) {
  const cell = state.cellOf(folder), left = x + PAD, top = y + TITLE;
  for (const link of cell.links.values()) {
    const a = cell.boxes[link.from], b = cell.boxes[link.to];
    const first = [left + a.x + link.out, a.port ? y : top + a.y + a.h];
    const last = [left + b.x + link.into, b.port ? y + cell.h : top + b.y];
    const bends = (link.bends || []).map(([bx, by, corner]) => [left + bx, top + by, corner]);
    const { against, sources, targets } = link;
    const points = [first, ...bends, last];
    drawn.links.push({ points, against, from: sources, to: targets, ends: !b.port });
  }
  for (const box of cell.boxes) {
    if (!box.thing) continue;
    const { thing, w, h, told } = box;
    const placed = { thing, x: left + box.x, y: top + box.y, w, h, told };
    if (state.isFrame(thing)) {
      drawn.frames.push(placed);
      state.cellOf(thing).h = h;
      flatten(thing, state, placed.x, placed.y, drawn);
    } else drawn.boxes.push(placed);
  }
}
