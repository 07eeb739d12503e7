// The scene as SVG: frames at the back, then links, then the frames' titles, shapes and boxes.

import { svg } from "./dom.mjs";
import { KINDS } from "./kinds.mjs";
import { at } from "./numbers.mjs";
import { BESIDE, TITLE } from "./places.mjs";
import { captionOf, LETTER, sizeText } from "./tree.mjs";

const ROUND = 5, CORNER = 6;

export function draw(layer, drawn, model) {
  const round = ROUND + 2;
  layer.replaceChildren(
    svg("g", {}, drawn.frames.map(({ x, y, w, h }) =>
      svg("rect", { class: "frame", x: at(x), y: at(y), width: at(w), height: at(h), rx: round }))),
    svg("g", {}, drawn.links.map(linkOf)),
    svg("g", {}, drawn.frames.map(handleOf)),
    svg("g", { class: "shapes" }, shapesOf(drawn)),
    svg("g", {}, drawn.boxes.map((box) => boxOf(box, model))),
  );
}

const clip = (words, letters) =>
  (words.length > letters ? `${words.slice(0, letters - 1)}…` : words);

function label(x, y, className, words, width, style) {
  const attributes = { x: at(x), y, class: className, style };
  return svg("text", attributes, clip(words, Math.floor((width - 12) / LETTER)));
}

const placed = (thing, x, y) =>
  ({ "data-key": thing.key, transform: `translate(${at(x)} ${at(y)})`, tabindex: -1,
    role: "button" });

// The title of an open folder, which folds it.
function handleOf({ thing, x, y, w }) {
  const title = `${thing.path}: ${sizeText(thing)}, open`;
  return svg("g", { class: "handle", ...placed(thing, x, y), "aria-expanded": "true" },
    svg("title", {}, `${title}; click to fold`),
    svg("rect", { class: "grip", width: at(w), height: TITLE - 4, rx: ROUND }),
    label(10, 15, "frame-name", `− ${thing.label}`, w));
}

function boxOf({ thing, x, y, w, h }, model) {
  const { className, title, style, ink } = model.lookOf(thing);
  const folder = thing.kind === "folder", node = thing.kind === "node";
  const attributes = { class: `box ${thing.kind} ${className}`, ...placed(thing, x, y),
    "aria-expanded": folder ? "false" : null };
  const inside = [svg("title", {}, title),
    svg("rect", { width: at(w), height: h, rx: node || folder ? ROUND : h / 2, style })];
  const middle = w / 2;
  if (node) {
    inside.push(label(middle, 15, "op", thing.op, w, ink),
      label(middle, 28, "caption", captionOf(thing), w, ink));
  } else if (folder) {
    inside.push(label(middle, 16, "op", `+ ${thing.label}`, w, ink),
      label(middle, 30, "caption", sizeText(thing), w, ink), strip(model.kindsOf(thing), w, h));
  } else inside.push(label(middle, 17, "caption", thing.label, w));
  return svg("g", attributes, inside);
}

// How many of a folder's nodes are of each kind, as a strip along its lower side.
function strip(counts, w, h) {
  const total = Object.values(counts).reduce((a, b) => a + b, 0), width = w - 12;
  let x = 6;
  return Object.keys(KINDS).filter((kind) => counts[kind]).map((kind) => {
    const part = (width * counts[kind]) / total;
    const place = { x: at(x), y: h - 8, width: at(part), height: 4 };
    x += part;
    return svg("rect", { class: `bar-${kind}`, ...place });
  });
}

function shapesOf({ boxes }) {
  return boxes.filter((box) => box.told).map(({ told, x, y, w, h }) =>
    svg("text", { class: "shape", x: at(x + w / 2 + BESIDE), y: at(y + h + 11) }, told));
}

function linkOf(link) {
  return svg("path", {
    class: `link${link.against ? " against" : ""}`, d: pathOf(link),
    "data-from": [...link.from].join(" "), "data-to": [...link.to].join(" "),
    "marker-end": link.ends ? "url(#arrow)" : null,
  });
}

// Curves from point to point, lines around the corners of lanes.
export function pathOf({ points, against }) {
  const [[x, y], ...rest] = points;
  let d = `M${at(x)} ${at(y)}`, [px, py] = [x, y];
  rest.forEach(([qx, qy, corner], i) => {
    if (corner) d += turn([px, py], [qx, qy], rest[i + 1]);
    else if (rest[i - 1]?.[2] || (px === qx && !against)) d += `L${at(qx)} ${at(qy)}`;
    else {
      const bow = against ? 40 : (qy - py) / 2;
      d += `C${at(px)} ${at(py + bow)} ${at(qx)} ${at(qy - bow)} ${at(qx)} ${at(qy)}`;
    }
    [px, py] = [qx, qy];
  });
  return d;
}

function turn(before, corner, after) {
  const toward = (other) => {
    const far = Math.hypot(other[0] - corner[0], other[1] - corner[1]) || 1;
    const share = Math.min(CORNER, far / 2) / far;
    return corner.slice(0, 2).map((v, i) => at(v + (other[i] - v) * share)).join(" ");
  };
  return `L${toward(before)}Q${at(corner[0])} ${at(corner[1])} ${toward(after)}`;
}
