// The graph: which folders are open, what is searched, what is chosen, and the colours.

const START = 40, SMALLEST = 0.5; // what is open at first: so many boxes, all seen at this scale

function graphSection(data, bus) {
  const tree = treeOf(data), open = new Set(), byKey = new Map();
  for (const thing of [...tree.folders, ...tree.leaves, ...tree.inputs, ...tree.outputs]) byKey.set(thing.key, thing);
  const layer = svg("g", {});
  const arrow = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0 1L8 4L0 7z" }));
  const canvas = svg("svg", { id: "graph-canvas", class: "canvas", role: "group", "aria-label": "The graph", tabindex: 0 }, svg("defs", {}, arrow), layer);
  const port = viewport(canvas, layer);
  const state = { colour: "precision", chosen: null, hits: [], hit: -1, drawn: null };
  const worst = Math.max(0, ...data.nodes.map((node) => node.share || 0));
  const model = { lookOf, shareOf };

  const kindsIn = new Map(tree.folders.map((folder) => [folder, countKinds(folder)]));
  function countKinds(folder) {
    const counts = {};
    for (const i of folder.nodes) {
      const kind = data.nodes[i].kind;
      counts[kind] = (counts[kind] || 0) + 1;
    }
    return counts;
  }
  function shareOf(folder) { return kindsIn.get(folder); }
  function damageOf(thing) { return thing.nodes.reduce((sum, i) => sum + Math.max(0, data.nodes[i].share || 0), 0); }

  function lookOf(thing) {
    if (thing.kind === "input" || thing.kind === "output") return { className: "end", title: `${thing.kind} ${thing.label}` };
    const row = thing.kind === "node" ? data.nodes[thing.index] : null;
    const title = row ? `${row.name}: ${row.op}, ${row.precision}` : `${thing.path}: ${sizeText(thing)}; click to unfold`;
    if (state.colour === "damage") {
      const share = damageOf(thing), heat = worst ? Math.sqrt(Math.min(1, share / worst)) : 0;
      return { className: heat > 0.6 ? "hot" : "", title: `${title}; ${percent(share)} % of the damage`, style: `--heat:${Math.round(100 * heat)}%` };
    }
    return { className: row ? `kind-${row.kind}` : "", title };
  }

  function show(keep) {
    const before = keep && state.drawn && placeOf(keep);
    state.drawn = scene(tree, open);
    port.view.size = state.drawn;
    draw(layer, state.drawn, model);
    const after = keep && placeOf(keep);
    if (before && after) port.pan((before.x - after.x) * port.view.k, (before.y - after.y) * port.view.k);
    mark();
  }
  function placeOf(thing) {
    return [...state.drawn.boxes, ...state.drawn.frames].find((box) => box.thing === thing);
  }
  function toggle(folder) {
    if (open.has(folder.key)) open.delete(folder.key);
    else open.add(folder.key);
    show(folder);
  }
  function reveal(thing) {
    let changed = false;
    for (let up = thing.parent; up.parent; up = up.parent) {
      changed = changed || !open.has(up.key);
      open.add(up.key);
    }
    if (changed) show();
    const box = placeOf(thing);
    if (box) port.center(box.x + box.w / 2, box.y + box.h / 2);
  }

  // Marks the chosen node with its links, and what the search found.
  function mark() {
    const shown = state.chosen ? shownFor(state.chosen, open).key : null;
    const found = new Set(state.hits.map((i) => shownFor(tree.leaves[i], open).key));
    for (const box of layer.querySelectorAll(".box")) {
      box.classList.toggle("chosen", box.dataset.key === shown);
      box.classList.toggle("hit", found.has(box.dataset.key));
    }
    for (const link of layer.querySelectorAll(".link")) {
      const ends = `${link.dataset.from} ${link.dataset.to}`.split(" ");
      link.classList.toggle("near", shown !== null && ends.includes(shown));
    }
    canvas.classList.toggle("searching", state.hits.length > 0);
  }
  function choose(index, center = true) {
    state.chosen = tree.leaves[index];
    bus.details(index); // first: it takes room from the drawing
    if (center) reveal(state.chosen);
    mark();
  }

  function press(event) {
    const target = event.target.closest("[data-key]");
    if (!target || port.dragged()) return;
    const thing = byKey.get(target.dataset.key);
    if (thing.kind === "folder") toggle(thing);
    else if (thing.kind === "node") choose(thing.index, false);
  }
  canvas.addEventListener("click", press);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) port.pan(...step);
    else if (event.key === "+" || event.key === "=") port.by(1.25);
    else if (event.key === "-") port.by(0.8);
    else if (event.key === "0") port.fit();
    else if (event.key === "Enter" || event.key === " ") press(event);
    else return;
    event.preventDefault();
  });

  const count = el("output", { id: "graph-count", class: "dim" });
  function look(words) {
    const wanted = words.trim().toLowerCase();
    state.hit = -1;
    state.hits = !wanted ? [] : data.nodes.flatMap((node, i) =>
      (node.name.toLowerCase().includes(wanted) || node.op.toLowerCase() === wanted ? [i] : []));
    count.textContent = wanted ? `${plural(state.hits.length, "node")}${state.hits.length ? "; Enter goes to the next" : ""}` : "";
    mark();
  }
  function next(step) {
    if (!state.hits.length) return;
    state.hit = (state.hit + step + state.hits.length) % state.hits.length;
    choose(state.hits[state.hit]);
    count.textContent = `${state.hit + 1} of ${state.hits.length}`;
  }
  const search = el("input", { id: "graph-search", type: "search", placeholder: "Find a node or an op", "aria-label": "Find a node or an op",
    oninput: (event) => look(event.target.value),
    onkeydown: (event) => { if (event.key === "Enter") { event.preventDefault(); next(event.shiftKey ? -1 : 1); } } });
  const colour = el("select", { id: "graph-colour", "aria-label": "Colour by", onchange: (event) => { state.colour = event.target.value; legend(); show(); } },
    el("option", { value: "precision" }, "Colour: precision"), el("option", { value: "damage", disabled: !worst }, worst ? "Colour: damage" : "Colour: damage (no ranking given)"));
  const key = el("p", { class: "legend" });
  function legend() {
    const used = new Set(data.nodes.map((node) => node.kind));
    canvas.classList.toggle("by-damage", state.colour === "damage");
    key.replaceChildren(...(state.colour === "damage"
      ? [el("span", { class: "heat" }), ` share of the damage, 0 to ${percent(worst)} %`]
      : Object.entries(KINDS).filter(([kind]) => used.has(kind)).map(([kind, name]) => el("span", { class: `chip kind-${kind}` }, name))));
  }
  const every = (opened) => { open.clear(); if (opened) for (const folder of tree.folders) open.add(folder.key); show(); port.fit(); };
  const tools = el("div", { class: "tools" }, search, count, colour,
    el("span", { class: "group" },
      button("Fold all", "Fold all folders", () => every(false), { id: "fold-all" }),
      button("Unfold all", "Unfold all folders", () => every(true), { id: "unfold-all" })),
    el("span", { class: "group" },
      button("−", "Zoom out", () => port.by(0.8)), button("+", "Zoom in", () => port.by(1.25)),
      button("Fit", "Show all", () => port.fit(false))));

  legend();
  const hint = el("p", { class: "dim screen-only" }, "Click a folder to unfold it, a node for its details. Drag to move; Ctrl + wheel or two fingers zoom.");
  const made = section("graph", "Graph", tools, key, el("div", { class: "work" }, el("div", { class: "stage" }, canvas), el("div", { id: "details", "aria-live": "polite" })), hint);
  return { made, choose, start() { openSome(tree, open, canvas.clientWidth, canvas.clientHeight); show(); port.fit(); },
    // On paper all of it, whatever the size of the sheet; returns how to go back.
    paper() {
      canvas.setAttribute("viewBox", `0 0 ${at(port.view.size.w)} ${at(port.view.size.h)}`);
      layer.removeAttribute("transform");
      return () => { canvas.removeAttribute("viewBox"); port.apply(); };
    } };
}

// Opens folders, outer ones first, as long as all that is drawn can still be seen at once.
function openSome(tree, open, width, height) {
  let boxes = tree.root.children.length;
  const queue = tree.root.children.filter((child) => child.kind === "folder");
  while (queue.length) {
    const folder = queue.shift();
    if (boxes + folder.children.length - 1 > START) continue;
    open.add(folder.key);
    const size = scene(tree, open);
    if (Math.min(width / size.w, height / size.h) < SMALLEST) {
      open.delete(folder.key);
      continue;
    }
    boxes += folder.children.length - 1;
    queue.push(...folder.children.filter((child) => child.kind === "folder"));
  }
}
