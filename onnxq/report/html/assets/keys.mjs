// The graph by keyboard: one stop of Tab, arrows along the edges.

import { placeOf, press, stop, toggle, zoomToChosen } from "./view.mjs";
import { stepFrom } from "./walking.mjs";

const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };

export function onKeys(graph) {
  const { canvas, port } = graph;
  const acts = {
    "+": () => port.by(1.25), "=": () => port.by(1.25), "-": () => port.by(0.8),
    0: () => port.fit(false), z: () => zoomToChosen(graph), Escape: () => fold(graph),
    Enter: (event) => press(graph, event.target), " ": (event) => press(graph, event.target),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key], act = acts[event.key] || acts[event.key.toLowerCase()];
    if (arrow) walk(graph, arrow);
    else if (act) act(event);
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("focusin", (event) => {
    const target = event.target.closest("[data-key]");
    if (target) stop(graph, graph.byKey.get(target.dataset.key), false);
  });
}

function walk(graph, direction) {
  const box = placeOf(graph, graph.stop);
  const next = box && stepFrom(box, direction, graph.drawn);
  if (!next) return;
  stop(graph, next.thing, true);
  graph.port.keep(next);
}

// Folds the folder around where one is.
function fold(graph) {
  const around = graph.stop.parent;
  if (around && around.parent) toggle(graph, around);
}
