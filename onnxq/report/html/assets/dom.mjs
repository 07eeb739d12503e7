// Elements. Text from the model goes in as text nodes, never as markup.

import { parts } from "./numbers.mjs";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

export const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// A long name with places where a line may break.
export const breakable = (name) =>
  parts(name).flatMap((part, i) => (i ? [el("wbr"), part] : [part]));
export const code = (name) => el("code", {}, breakable(name));
export const text = (className, ...children) => el("span", { class: className }, ...children);
export const dim = (...children) => el("p", { class: "dim" }, ...children);

export function section(id, title, ...children) {
  return el("section", { id, class: "panel", "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title), ...children);
}

// A sign, such as "+", needs a name: {"aria-label": …}.
export const button = (label, onclick, attributes = {}) =>
  el("button", { type: "button", onclick, ...attributes }, label);

// Names and values, one under the other.
export const pairs = (rows) =>
  el("dl", {}, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

export const bullets = (lines) => el("ul", {}, lines.map((line) => el("li", {}, breakable(line))));

// Says to those who cannot see the page what has just changed on it.
export function say(words) {
  document.getElementById("said").textContent = words;
}
