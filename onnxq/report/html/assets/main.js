// The page: its sections in order, and how they lead to each other.

function pairs(rows) {
  return el("dl", {}, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, typeof value === "string" ? breakable(value) : digits(value, 6))]));
}

function provenanceSection(data) {
  const found = data.provenance;
  const copy = (line) => button("Copy", "Copy the command", (event) => {
    navigator.clipboard.writeText(line).then(() => { event.target.textContent = "Copied"; }, () => {});
  }, { class: "copy" });
  const recovered = found.recovered.filter((r) => r.kept + r.undone).map((r) => {
    const gains = r.kept ? r.sqnr.map(([name, before, after]) => `${name} ${decibels(before)} → ${decibels(after)} dB`).join(", ") : "";
    return el("li", {}, `${r.algorithm}: kept at ${r.kept} of ${plural(r.kept + r.undone, "node")}`, gains ? text("dim", ` (${gains})`) : "", r.notes.length ? el("ul", {}, r.notes.map((note) => el("li", {}, breakable(note)))) : null);
  });
  const block = (title, ...inside) => el("div", {}, el("h3", {}, title), ...inside);
  return section("provenance", "Provenance",
    el("div", { class: "columns" },
      found.facts.length ? block("From", pairs(found.facts)) : null,
      block("Versions", pairs(found.versions)),
      found.options.length ? block("Options that are not the defaults", pairs(found.options)) : null,
      found.seconds.length ? block("Seconds", pairs(found.seconds)) : null),
    recovered.length ? block("Recovered", el("ul", {}, recovered)) : null,
    found.commands.length ? block("To repeat it", el("ol", { class: "commands" }, found.commands.map((line) => el("li", {}, el("pre", {}, el("code", {}, line)), copy(line))))) : null);
}

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const main = document.getElementById("main"), nav = document.getElementById("nav"), made = [];
  const bus = {
    node(index) { graph.choose(index); graph.made.scrollIntoView({ block: "start" }); },
    tensor(place, scroll) { tensors.show(place, scroll); },
    details(index) { document.getElementById("details").replaceChildren(detailsOf(index, data, bus)); },
  };
  const graph = graphSection(data, bus), tensors = data.tensors.length ? tensorsSection(data) : null;
  made.push(summarySection(data), graph.made, nodesSection(data, bus));
  if (data.sensitivity) made.push(sensitivitySection(data, bus));
  if (data.search) made.push(searchSection(data));
  if (data.comparison) made.push(comparisonSection(data));
  if (tensors) made.push(tensors.made);
  if (data.engine) made.push(engineSection(data, bus));
  if (data.fleet) made.push(fleetSection(data));
  made.push(provenanceSection(data));
  main.append(...made);
  nav.append(...made.map((each) => el("a", { href: `#${each.id}` }, each.querySelector("h2").textContent)));
  document.getElementById("title").replaceChildren(...breakable(data.title));
  document.getElementById("footer").append(`Made by ${data.made_by}.`);
  graph.start();
  let back = null;
  window.addEventListener("beforeprint", () => { back = graph.paper(); });
  window.addEventListener("afterprint", () => { if (back) back(); });
  document.documentElement.dataset.ready = "yes";
}

start();
