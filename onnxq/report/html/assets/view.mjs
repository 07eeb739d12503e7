// The view of the graph: what is open, chosen and drawn, and what changes it.

import { draw } from "./drawing.mjs";
import { dim, svg } from "./dom.mjs";
import { describe, looks } from "./looks.mjs";
import { at } from "./numbers.mjs";
import { openSome } from "./opening.mjs";
import { scene } from "./places.mjs";
import { shownFor, treeOf } from "./tree.mjs";
import { viewport } from "./viewport.mjs";

const PAPER = 1.6; // width by height of the graph in print

export function viewOf(data, bus) {
  const tree = treeOf(data);
  const things = [...tree.folders, ...tree.leaves, ...tree.inputs, ...tree.outputs];
  const layer = svg("g", {});
  const arrow = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, orient: "auto",
    markerWidth: 7, markerHeight: 7, markerUnits: "userSpaceOnUse" },
  svg("path", { d: "M0 1L8 4L0 7z" }));
  const canvas = svg("svg", { id: "graph-canvas", class: "canvas", role: "application",
    "aria-label": `The graph: ${describe(data)}`, "aria-describedby": "graph-hint" },
  svg("defs", {}, arrow), layer);
  return {
    data, bus, tree, layer, canvas, port: viewport(canvas, layer), looks: looks(data, tree),
    byKey: new Map(things.map((thing) => [thing.key, thing])), open: new Set(),
    chosen: null, hits: [], hit: -1, drawn: null, stop: null, key: dim(),
  };
}

export function start(graph) {
  const { canvas, tree, open } = graph;
  openSome(tree, open, canvas.clientWidth, canvas.clientHeight);
  redraw(graph);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) redraw(graph);
    width = window.innerWidth;
  });
  document.addEventListener("fullscreenchange", () => redraw(graph));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(graph));
}

// All of it anew, for the room that there is.
export function redraw(graph) {
  const { clientWidth, clientHeight } = graph.canvas;
  graph.aspect = (clientWidth || 1) / (clientHeight || 1);
  show(graph);
  graph.port.fit();
}

export const placeOf = (graph, thing) =>
  [...graph.drawn.boxes, ...graph.drawn.frames].find((box) => box.thing === thing);

// Draws what is open; `keep` stays where it is on the screen.
export function show(graph, keep) {
  const { port, layer } = graph, focused = layer.contains(document.activeElement);
  const before = keep && graph.drawn && placeOf(graph, keep);
  graph.drawn = scene(graph.tree, graph.open, graph.aspect);
  port.view.size = graph.drawn;
  draw(layer, graph.drawn, graph.looks);
  const after = keep && placeOf(graph, keep);
  if (before && after) {
    port.pan((before.x - after.x) * port.view.k, (before.y - after.y) * port.view.k);
  }
  stop(graph, shownFor(keep || graph.stop || graph.tree.root.children[0], graph.open), focused);
  mark(graph);
}

// Makes a thing the one that Tab comes to; with `focus` goes to it.
export function stop(graph, thing, focus) {
  const find = (one) => graph.layer.querySelector(`[data-key="${one.key}"]`);
  const old = graph.layer.querySelector("[tabindex=\"0\"]"), next = find(thing);
  if (old) old.setAttribute("tabindex", -1);
  graph.stop = thing;
  if (!next) return;
  next.setAttribute("tabindex", 0);
  if (focus) next.focus({ preventScroll: true });
}

export function toggle(graph, folder) {
  if (graph.open.has(folder.key)) graph.open.delete(folder.key);
  else graph.open.add(folder.key);
  show(graph, folder);
}

// Opens what is around a thing, and moves to it.
function reveal(graph, thing) {
  let changed = false;
  for (let up = thing.parent; up.parent; up = up.parent) {
    changed = changed || !graph.open.has(up.key);
    graph.open.add(up.key);
  }
  if (changed) show(graph);
  const box = placeOf(graph, thing);
  if (box) graph.port.center(box.x + box.w / 2, box.y + box.h / 2);
}

export function choose(graph, index, center = true) {
  graph.chosen = graph.tree.leaves[index];
  graph.bus.details(index); // first: it takes room from the drawing
  if (center) reveal(graph, graph.chosen);
  stop(graph, graph.chosen, false);
  mark(graph);
}

// The chosen node, and what it reads from and is read by, as large as it gets.
export function zoomToChosen(graph) {
  const thing = graph.chosen || graph.stop, box = placeOf(graph, shownFor(thing, graph.open));
  if (!box) return;
  const keys = new Set([box.thing.key]);
  for (const { from, to } of graph.drawn.pairs) {
    if (from === box.thing) keys.add(to.key);
    if (to === box.thing) keys.add(from.key);
  }
  const near = graph.drawn.boxes.filter((other) => keys.has(other.thing.key));
  const x = Math.min(...near.map((b) => b.x)), y = Math.min(...near.map((b) => b.y));
  graph.port.show({ x, y, w: Math.max(...near.map((b) => b.x + b.w)) - x,
    h: Math.max(...near.map((b) => b.y + b.h)) - y });
}

// Marks the chosen node with its links, and what the search found.
export function mark({ tree, open, layer, canvas, chosen, hits }) {
  const shown = chosen ? shownFor(chosen, open).key : null;
  const found = new Set(hits.map((i) => shownFor(tree.leaves[i], open).key));
  for (const box of layer.querySelectorAll(".box")) {
    box.classList.toggle("chosen", box.dataset.key === shown);
    box.classList.toggle("hit", found.has(box.dataset.key));
  }
  for (const link of layer.querySelectorAll(".link")) {
    const ends = `${link.dataset.from} ${link.dataset.to}`.split(" ");
    link.classList.toggle("near", shown !== null && ends.includes(shown));
  }
  canvas.classList.toggle("searching", hits.length > 0);
}

// Opens what was clicked, or Enter pressed on.
export function press(graph, where) {
  const target = where.closest("[data-key]");
  if (!target || graph.port.dragged()) return;
  const thing = graph.byKey.get(target.dataset.key);
  if (thing.kind === "folder") toggle(graph, thing);
  else if (thing.kind === "node") choose(graph, thing.index, false);
}

// On paper all of it, whatever the size of the sheet; returns how to go back.
export function paper(graph) {
  const { canvas, layer, port, aspect } = graph;
  graph.aspect = PAPER;
  show(graph);
  canvas.setAttribute("viewBox", `0 0 ${at(port.view.size.w)} ${at(port.view.size.h)}`);
  layer.removeAttribute("transform");
  return () => {
    canvas.removeAttribute("viewBox");
    graph.aspect = aspect;
    show(graph);
    port.apply();
  };
}
