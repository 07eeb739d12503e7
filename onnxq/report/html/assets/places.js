// Where everything stands: open folders as frames around what is in them, closed ones as boxes.
//
// An edge that leaves a frame leaves it through a port on its lower side, one that enters comes
// through a port on its upper side; there is one for each node that it comes from. So an edge
// is a chain of links, one in each frame, and edges from one node share the links they can.

const PAD = 12, TITLE = 24, LETTER = 6.7, ENDS = 4;

// The tree of the model: {key, kind, parent, children, nodes (indices in it), label}.
function treeOf(data) {
  const root = { key: "root", kind: "folder", parent: null, children: [], nodes: [], label: "" };
  const folders = data.folders.map((folder, i) =>
    ({ key: `f${i}`, kind: "folder", children: [], nodes: [], label: folder.label, path: folder.path }));
  const owner = (index) => (index < 0 ? root : folders[index]);
  folders.forEach((folder, i) => { folder.parent = owner(data.folders[i].parent); });
  const leaves = data.nodes.map((node, i) =>
    ({ key: `n${i}`, kind: "node", index: i, parent: owner(node.folder), nodes: [i], label: node.label, op: node.op }));
  const port = (kind) => (value, i) =>
    ({ key: `${kind}${i}`, kind, parent: root, nodes: [], label: value.name, ends: value.nodes });
  const inputs = data.inputs.map(port("input")), outputs = data.outputs.map(port("output"));
  for (const folder of folders) folder.parent.children.push(folder);
  for (const leaf of leaves) {
    leaf.parent.children.push(leaf);
    for (let up = leaf.parent; up; up = up.parent) up.nodes.push(leaf.index);
  }
  const inOrder = (folder) => folder.children.sort((a, b) => a.nodes[0] - b.nodes[0]);
  [root, ...folders].forEach(inOrder);
  root.children.unshift(...inputs.length > ENDS ? [gather("inputs", inputs)] : inputs);
  root.children.push(...outputs.length > ENDS ? [gather("outputs", outputs)] : outputs);
  const edges = data.edges.map(([a, b]) => [leaves[a], leaves[b]]);
  for (const end of inputs) for (const i of end.ends) edges.push([end, leaves[i]]);
  for (const end of outputs) for (const i of end.ends) edges.push([leaves[i], end]);
  return { root, folders, leaves, inputs, outputs, edges };

  // Many inputs or outputs, in a folder of their own.
  function gather(name, ends) {
    const folder = { key: name, kind: "folder", parent: root, children: ends, nodes: [], label: name, path: name, count: plural(ends.length, name.slice(0, -1)) };
    for (const end of ends) end.parent = folder;
    folders.push(folder);
    return folder;
  }
}

// What stands for a thing when only the folders in `open` are: itself or the closed folder.
function shownFor(thing, open) {
  let shown = thing;
  for (let up = thing.parent; up.parent; up = up.parent) if (!open.has(up.key)) shown = up;
  return shown;
}

const sizeText = (folder) => folder.count || plural(folder.nodes.length, "node");

function sizeOf(thing) {
  const words = thing.kind === "node" ? [thing.op, captionOf(thing)] : [`+ ${thing.label}`, sizeText(thing)];
  const letters = Math.max(...words.map((word) => Math.min(word.length, 30)));
  return { w: Math.max(64, letters * LETTER + 22), h: thing.kind === "folder" ? 44 : thing.kind === "node" ? 36 : 26 };
}

// The name of a node without its op type at the end, which stands above it.
function captionOf(thing) {
  const parts = thing.label.split("/");
  const last = parts[parts.length - 1];
  const plain = last === thing.op || last.startsWith(`${thing.op}_`);
  return plain && parts.length > 1 ? parts.slice(0, -1).join("/") : thing.label;
}

// The scene: {frames, boxes, links} in absolute places, and its size.
function scene(tree, open) {
  const cells = new Map(); // of frames: their inner boxes, links and ports
  const isFrame = (thing) => thing === tree.root || (thing.kind === "folder" && open.has(thing.key));
  const cellOf = (folder) => {
    if (!cells.has(folder)) cells.set(folder, { boxes: [], at: new Map(), links: new Map() });
    return cells.get(folder);
  };
  collect(tree.root, isFrame, cellOf);
  const pairs = new Map();
  for (const [a, b] of tree.edges) {
    const from = shownFor(a, open), to = shownFor(b, open);
    if (from !== to) pairs.set(`${from.key}>${to.key}`, [from, to]);
  }
  for (const [from, to] of pairs.values()) chain(from, to, cellOf);
  const size = arrange(tree.root, cellOf, isFrame);
  const drawn = { frames: [], boxes: [], links: [], ...size };
  flatten(tree.root, cellOf, isFrame, 0, 0, drawn);
  return drawn;
}

function collect(folder, isFrame, cellOf) {
  const cell = cellOf(folder);
  for (const child of folder.children) {
    addBox(cell, child.key, { thing: child, w: 0, h: 0 });
    if (isFrame(child)) collect(child, isFrame, cellOf);
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
  while (above.length > 1 && below.length > 1 && above[above.length - 2] === below[below.length - 2]) {
    above.pop();
    below.pop();
  }
  const meet = above.pop();
  below.pop();
  const link = (folder, a, b) => {
    const links = cellOf(folder).links, id = `${a.key}${a.port || ""}>${b.key}${b.port || ""}`;
    if (!links.has(id)) links.set(id, { a, b, from: new Set(), to: new Set() });
    links.get(id).from.add(from.key);
    links.get(id).to.add(to.key);
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

function arrange(folder, cellOf, isFrame) {
  const cell = cellOf(folder);
  for (const box of cell.boxes) {
    if (box.thing) Object.assign(box, isFrame(box.thing) ? arrange(box.thing, cellOf, isFrame) : sizeOf(box.thing));
  }
  const place = (end) => {
    const box = cell.boxes[cell.at.get(end.key)];
    if (!end.port) return box.w / 2;
    const inner = cellOf(box.thing);
    return PAD + inner.boxes[inner.at.get(end.port)].x + 1;
  };
  const links = [...cell.links.values()];
  for (const link of links) {
    Object.assign(link, { from_: link.from, to_: link.to, from: cell.at.get(link.a.key), to: cell.at.get(link.b.key) });
    Object.assign(link, { out: place(link.a), into: place(link.b) });
  }
  const size = layered(cell.boxes, links);
  const title = folder.label.length > 30 ? 30 : folder.label.length;
  return { w: Math.max(size.w, title * LETTER + 30) + 2 * PAD, h: size.h + TITLE + PAD };
}

function flatten(folder, cellOf, isFrame, x, y, drawn) {
  const cell = cellOf(folder), left = x + PAD, top = y + TITLE;
  for (const link of cell.links.values()) {
    const a = cell.boxes[link.from], b = cell.boxes[link.to];
    const first = [left + a.x + link.out, a.port ? y : top + a.y + a.h];
    const last = [left + b.x + link.into, b.port ? y + cell.h : top + b.y];
    const bends = (link.bends || []).map(([bx, by]) => [left + bx, top + by]);
    drawn.links.push({ points: [first, ...bends, last], against: link.against, from: link.from_, to: link.to_, ends: !b.port });
  }
  for (const box of cell.boxes) {
    if (!box.thing) continue;
    const at = { thing: box.thing, x: left + box.x, y: top + box.y, w: box.w, h: box.h };
    if (isFrame(box.thing)) {
      drawn.frames.push(at);
      cellOf(box.thing).h = box.h;
      flatten(box.thing, cellOf, isFrame, at.x, at.y, drawn);
    } else drawn.boxes.push(at);
  }
}
