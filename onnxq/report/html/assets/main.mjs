// The page: its sections in order, and how they lead to each other.

import { againstSection } from "./against.mjs";
import { comparisonSection } from "./comparison.mjs";
import { detailsOf } from "./details.mjs";
import { breakable, el } from "./dom.mjs";
import { engineSection } from "./engine.mjs";
import { fleetSection } from "./fleet.mjs";
import { graphSection } from "./graph.mjs";
import { nodesSection } from "./nodes.mjs";
import { picturesSection } from "./pictures.mjs";
import { provenanceSection } from "./provenance.mjs";
import { searchSection } from "./search.mjs";
import { sensitivitySection } from "./sensitivity.mjs";
import { summarySection } from "./summary.mjs";
import { tensorsSection } from "./tensors.mjs";

// Sections that are there where their data are: key of the data, and what makes it.
const WHERE_KNOWN = [
  ["sensitivity", sensitivitySection], ["search", searchSection],
  ["comparison", comparisonSection],
];

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const bus = {
    node(index) { graph.choose(index); graph.made.scrollIntoView({ block: "start" }); },
    tensor(place, scroll) { tensors.show(place, scroll); },
    details(index) {
      document.getElementById("details").replaceChildren(detailsOf(index, data, bus));
    },
    close() { graph.close(); },
  };
  const graph = graphSection(data, bus);
  const tensors = data.tensors.length ? tensorsSection(data) : null;
  const made = [summarySection(data), graph.made, nodesSection(data, bus)];
  if (data.pictures) made.splice(1, 0, picturesSection(data));
  if (data.against) made.splice(1, 0, againstSection(data, bus));
  for (const [key, make] of WHERE_KNOWN) if (data[key]) made.push(make(data, bus));
  if (tensors) made.push(tensors.made);
  if (data.engine) made.push(engineSection(data, bus));
  if (data.fleet) made.push(fleetSection(data));
  made.push(provenanceSection(data));
  fill(data, made);
  graph.start();
  let back = null;
  window.addEventListener("beforeprint", () => { back = graph.paper(); });
  window.addEventListener("afterprint", () => { if (back) back(); });
  document.documentElement.dataset.ready = "yes";
}

function fill(data, made) {
  const byId = (id) => document.getElementById(id);
  byId("main").append(...made);
  byId("nav").append(...made.map((each) =>
    el("a", { href: `#${each.id}` }, each.querySelector("h2").textContent)));
  byId("title").replaceChildren(...breakable(data.title));
  byId("footer").append(`Made by ${data.made_by}.`);
}

start();
