// The section of the graph.

import { controls, legend } from "./controls.mjs";
import { el, section } from "./dom.mjs";
import { onKeys } from "./keys.mjs";
import { choose, paper, press, start, viewOf } from "./view.mjs";

const HINT = "Click a folder to unfold it, a node for its details; drag to move; Ctrl + wheel or"
  + " two fingers zoom. By keyboard: arrows follow the edges, Enter opens, Escape folds the folder"
  + " around, Z zooms to the node, 0 shows all.";

export function graphSection(data, bus) {
  const graph = viewOf(data, bus);
  legend(graph);
  const details = el("div", { id: "details", "aria-live": "polite" });
  graph.work = el("div", { class: "work" }, el("div", { class: "stage" }, graph.canvas), details);
  graph.canvas.addEventListener("click", (event) => press(graph, event.target));
  onKeys(graph);
  const element = section("graph", "Graph", controls(graph), graph.key, graph.work,
    el("p", { class: "dim screen-only", id: "graph-hint" }, HINT));
  return {
    made: element, choose: (index) => choose(graph, index),
    close: () => details.replaceChildren(), start: () => start(graph), paper: () => paper(graph),
  };
}
