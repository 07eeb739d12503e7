// Elements and numbers. Text from the model goes in as text nodes, never as markup.

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

const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Numbers come as numbers, or as "inf", "-inf" and "nan".
function number(value) {
  if (typeof value === "number") return value;
  if (typeof value !== "string") return NaN;
  return Number(value.replace("inf", "Infinity"));
}

function digits(value, count = 4) {
  if (value === null || value === undefined) return "";
  const x = number(value);
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e6 || size < 1e-4 ? x.toExponential(count - 2) : String(Number(x.toPrecision(count)));
  return text.replace("-", "−").replace("e+", "e").replace("e−", "e-");
}

const decibels = (value) => {
  if (value === null || value === undefined) return "";
  const x = number(value);
  return Number.isFinite(x) ? x.toFixed(1).replace("-", "−") : digits(value);
};

// A share in percent; what would round to 0 is shown as it is.
function percent(value) {
  if (value === null || value === undefined) return "";
  const x = 100 * number(value);
  if (x === 0) return "0";
  return Math.abs(x) >= 0.01 ? x.toFixed(Math.abs(x) < 1 ? 3 : 1).replace("-", "−") : digits(x, 2);
}

const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function interval(ends, format = digits) {
  if (!ends) return "";
  return ends[0] === ends[1] ? format(ends[0], 3) : `${format(ends[0], 3)} – ${format(ends[1], 3)}`;
}

// A long name with places where a line may break: after a slash, a dot or an underscore.
function breakable(name) {
  return name.split(/(?<=[/_:])|(?<=\.)(?=\D)/).flatMap((part, i) => (i ? [el("wbr"), part] : [part]));
}

const text = (className, ...children) => el("span", { class: className }, ...children);

function section(id, title, ...children) {
  return el("section", { id, class: "panel", "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title), ...children);
}

function button(label, title, onclick, attributes = {}) {
  return el("button", { type: "button", title, "aria-label": title, onclick, ...attributes }, label);
}

// The classes of precision, which are the page's colours.
const KINDS = {
  int8: "8 bits", int4: "4 bits", fp8: "FP8", int16: "16 bits", float: "left float",
  none: "nothing to quantize",
};

const chip = (node) => el("span", { class: `chip kind-${node.kind}` }, node.precision);
