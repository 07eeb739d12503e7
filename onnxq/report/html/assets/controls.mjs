// What stands over the graph: search, colours, folding, zoom, full screen.

import { button, el } from "./dom.mjs";
import { choose, mark, redraw, show, zoomToChosen } from "./view.mjs";
import { KINDS } from "./kinds.mjs";
import { percent, plural } from "./numbers.mjs";

export function controls(graph) {
  const group = (...inside) => el("span", { class: "group" }, inside);
  const { port } = graph, can = document.fullscreenEnabled;
  return el("div", { class: "tools" }, searchOf(graph), colourOf(graph),
    group(button("Fold all", () => every(graph, false), { id: "fold-all" }),
      button("Unfold all", () => every(graph, true), { id: "unfold-all" })),
    group(button("−", () => port.by(0.8), { "aria-label": "Zoom out" }),
      button("+", () => port.by(1.25), { "aria-label": "Zoom in" }),
      button("Fit", () => port.fit(false), { id: "fit" }),
      button("Zoom to node", () => zoomToChosen(graph), { id: "zoom-to" }),
      can ? button("Full screen", () => fill(graph), { id: "full" }) : null));
}

function fill(graph) {
  if (document.fullscreenElement) document.exitFullscreen();
  else graph.work.requestFullscreen();
}

function every(graph, opened) {
  graph.open.clear();
  if (opened) for (const folder of graph.tree.folders) graph.open.add(folder.key);
  redraw(graph);
}

function searchOf(graph) {
  const count = el("output", { id: "graph-count", class: "dim" });
  const look = (words) => {
    const wanted = words.trim().toLowerCase();
    const holds = (node) => node.name.toLowerCase().includes(wanted)
      || node.op.toLowerCase() === wanted;
    graph.hit = -1;
    graph.hits = wanted ? graph.data.nodes.flatMap((node, i) => (holds(node) ? [i] : [])) : [];
    const more = graph.hits.length ? "; Enter goes to the next" : "";
    count.textContent = wanted ? `${plural(graph.hits.length, "node")}${more}` : "";
    mark(graph);
  };
  const next = (step) => {
    const { hits } = graph;
    if (!hits.length) return;
    graph.hit = (graph.hit + step + hits.length) % hits.length;
    choose(graph, hits[graph.hit]);
    count.textContent = `${graph.hit + 1} of ${hits.length}`;
  };
  const words = "Find a node or an op";
  return [el("input", { id: "graph-search", type: "search", placeholder: words,
    "aria-label": words, oninput: (event) => look(event.target.value),
    onkeydown: (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      next(event.shiftKey ? -1 : 1);
    } }), count];
}

function colourOf(graph) {
  const { worst } = graph.looks, missing = worst ? "" : " (no ranking given)";
  const change = (event) => {
    graph.looks.by = event.target.value;
    legend(graph);
    show(graph);
  };
  return el("select", { id: "graph-colour", "aria-label": "Colour by", onchange: change },
    el("option", { value: "precision" }, "Colour: precision"),
    el("option", { value: "damage", disabled: !worst }, `Colour: damage${missing}`));
}

// What the colours mean.
export function legend(graph) {
  const { data, looks, key, canvas } = graph;
  const used = new Set(data.nodes.map((node) => node.kind)), damage = looks.by === "damage";
  canvas.classList.toggle("by-damage", damage);
  key.className = "legend";
  key.replaceChildren(...(damage
    ? [el("span", { class: "heat" }), ` share of the damage, 0 to ${percent(looks.worst)} %`]
    : Object.entries(KINDS).filter(([kind]) => used.has(kind))
      .map(([kind, name]) => el("span", { class: `chip kind-${kind}` }, name))));
}
