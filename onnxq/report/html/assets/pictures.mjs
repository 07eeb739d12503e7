// What both models make of samples: detections on the image, maps beside each other.

import { dim, el, section, svg, text } from "./dom.mjs";
import { at, digits, plural } from "./numbers.mjs";

const NAMED = 8; // detections that a picture's description lists
const SIDES = ["float", "quantized"];
const ALONE = { float: "lost", quantized: "new" }; // what one model alone finds

export function picturesSection(data) {
  return section("pictures", "Pictures",
    el("div", { class: "samples" }, data.pictures.map(sampleOf)));
}

function sampleOf({ sample, samples, worst, outputs, pictures }) {
  const most = worst && samples > 1 ? ", in which the two differ most" : "";
  const few = outputs > pictures.length
    ? dim(`The ${pictures.length} of ${outputs} outputs that differ most.`) : null;
  return el("div", { class: "sample" },
    el("h3", {}, `Sample ${sample + 1} of ${samples}${most}`), few,
    pictures.map((picture) => KINDS[picture.kind](picture, sample + 1)));
}

const KINDS = { boxes: boxesOf, map: mapOf, drawn: drawnOf };

const figure = (picture, ...words) =>
  el("figure", {}, picture, el("figcaption", {}, words));

const image = (src, alt, more = {}) => el("img", { src, alt, ...more });

// Detections are lines over the image, so that they stay sharp.
function boxesOf(picture, sample) {
  return el("div", { class: "pictures" }, SIDES.map((side) => {
    const found = picture[side], alone = found.filter((each) => each.alone).length;
    const note = alone ? [", ", text("alone", `${alone} ${ALONE[side]}`)] : "";
    return figure(drawn(picture, found, described(found, side, sample)),
      el("strong", {}, side), `: ${plural(found.length, "detection")}`, note);
  }));
}

// What a picture shows, for those who cannot see it.
export function described(found, name, sample) {
  const said = found.slice(0, NAMED).map((each) => each.label || "a box");
  const more = found.length > NAMED ? ` and ${found.length - NAMED} more` : "";
  const what = found.length ? `${said.join(", ")}${more}` : "nothing found";
  return `Sample ${sample}, ${name} model: ${what}`;
}

function drawn({ image: src, width, height }, found, label) {
  const letter = Math.max(width, height) / 34, line = letter / 8;
  const boxes = [...found].reverse().map(({ box, label: words, alone }) => {
    const [x, y] = box, [w, h] = [box[2] - box[0], box[3] - box[1]];
    const place = labelPlace(box, words, letter, width);
    return svg("g", { class: alone ? "found alone" : "found" },
      svg("rect", { class: "halo", x, y, width: w, height: h, "stroke-width": 2 * line }),
      svg("rect", { x, y, width: w, height: h, "stroke-width": line,
        "stroke-dasharray": alone ? `${at(4 * line)} ${at(2.5 * line)}` : null }),
      words ? [svg("rect", { class: "plate", ...place }),
        svg("text", { x: at(place.x + letter / 4), y: at(place.y + letter),
          "font-size": at(letter) }, words)] : null);
  });
  return svg("svg", { class: "seen", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": label }, svg("image", { href: src, width, height }), boxes);
}

// Above a box, or in it where the picture ends there.
export function labelPlace([x, y], words, letter, width) {
  const w = at(0.58 * letter * words.length + letter / 2), h = at(1.35 * letter);
  return { x: at(Math.max(0, Math.min(x, width - w))), y: at(y > h ? y - h : Math.max(0, y)),
    width: w, height: h };
}

function mapOf(picture, sample) {
  const { name, low, high, most, same, width, height } = picture;
  const shape = { class: "map", style: `aspect-ratio:${width}/${height}` };
  const what = `Sample ${sample}, ${name}`;
  const scale = same === undefined ? `, colours from ${digits(low, 3)} to ${digits(high, 3)}` : "";
  const apart = same === undefined ? `: at most ${digits(most, 3)}`
    : `: ${share(same)} % of the pixels are the same`;
  const read = picture.image && figure(image(picture.image, `Sample ${sample}, the input`,
    { ...shape, class: "map smooth" }), "input");
  return [el("p", { class: "picture-name" }, el("code", {}, name), text("dim", scale)),
    el("div", { class: "pictures maps" }, read,
      SIDES.map((side) => figure(image(picture[side], `${what}, ${side} model`, shape),
        el("strong", {}, side))),
      figure(image(picture.difference, `${what}, difference${apart}`, shape),
        el("strong", {}, "difference"), apart))];
}

// In percent; rounds to 100 only what is all.
const share = (part) => (part < 1 ? Math.floor(1e4 * part) / 100 : 100);

function drawnOf(picture, sample) {
  return el("div", { class: "pictures" }, SIDES.map((side) =>
    figure(image(picture[side], `Sample ${sample}, ${side} model, as your function draws it`),
      el("strong", {}, side))));
}
