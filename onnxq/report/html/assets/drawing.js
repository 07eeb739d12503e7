// The scene as SVG: frames at the back, then links, then the frames' titles and boxes.

const ROUND = 5;

function draw(layer, drawn, model) {
  layer.replaceChildren(
    svg("g", {}, drawn.frames.map(({ x, y, w, h }) => svg("rect", { class: "frame", x, y, width: w, height: h, rx: ROUND + 2 }))),
    svg("g", {}, drawn.links.map(linkOf)),
    svg("g", {}, drawn.frames.map(handleOf)),
    svg("g", {}, drawn.boxes.map((box) => boxOf(box, model))),
  );
}

const clip = (words, letters) => (words.length > letters ? `${words.slice(0, letters - 1)}…` : words);

function label(x, y, className, words, width) {
  return svg("text", { x, y, class: className }, clip(words, Math.floor((width - 12) / LETTER)));
}

// The title of an open folder, which folds it.
function handleOf({ thing, x, y, w }) {
  return svg("g", { class: "handle", "data-key": thing.key, transform: `translate(${x} ${y})`, tabindex: 0, role: "button", "aria-expanded": "true", "aria-label": `fold ${thing.label}` },
    svg("title", {}, `${thing.path}: ${sizeText(thing)}; click to fold`),
    svg("rect", { class: "grip", width: w, height: TITLE - 4, rx: ROUND }),
    label(10, 15, "frame-name", `− ${thing.label}`, w));
}

function boxOf({ thing, x, y, w, h }, model) {
  const look = model.lookOf(thing);
  const attributes = {
    class: `box ${thing.kind} ${look.className}`, "data-key": thing.key, tabindex: 0, role: "button",
    transform: `translate(${x} ${y})`, "aria-label": look.title,
  };
  const inside = [svg("title", {}, look.title), svg("rect", { width: w, height: h, rx: thing.kind === "node" || thing.kind === "folder" ? ROUND : h / 2, style: look.style })];
  if (thing.kind === "node") {
    inside.push(label(w / 2, 15, "op", thing.op, w), label(w / 2, 28, "caption", captionOf(thing), w));
  } else if (thing.kind === "folder") {
    inside.push(label(w / 2, 16, "op", `+ ${thing.label}`, w), label(w / 2, 30, "caption", sizeText(thing), w));
    inside.push(strip(model.shareOf(thing), w, h));
  } else inside.push(label(w / 2, 17, "caption", thing.label, w));
  return svg("g", attributes, inside);
}

// How many of a folder's nodes are of each kind, as a strip along its lower side.
function strip(counts, w, h) {
  const total = Object.values(counts).reduce((a, b) => a + b, 0), width = w - 12;
  let x = 6;
  return Object.keys(KINDS).filter((kind) => counts[kind]).map((kind) => {
    const part = width * counts[kind] / total, rect = svg("rect", { class: `bar-${kind}`, x, y: h - 8, width: part, height: 4 });
    x += part;
    return rect;
  });
}

function linkOf(link) {
  return svg("path", {
    class: `link${link.against ? " against" : ""}`, d: pathOf(link),
    "data-from": [...link.from].join(" "), "data-to": [...link.to].join(" "),
    "marker-end": link.ends ? "url(#arrow)" : null,
  });
}

function pathOf({ points, against }) {
  const [[x, y], ...rest] = points;
  let d = `M${at(x)} ${at(y)}`, [px, py] = [x, y];
  for (const [qx, qy] of rest) {
    const bow = against ? 40 : (qy - py) / 2;
    d += px === qx && !against ? `V${at(qy)}` : `C${at(px)} ${at(py + bow)} ${at(qx)} ${at(qy - bow)} ${at(qx)} ${at(qy)}`;
    [px, py] = [qx, qy];
  }
  return d;
}

const at = (value) => Math.round(value * 10) / 10;
