// Numbers as text. They come as numbers, or as "inf", "-inf" and "nan".

export function number(value) {
  if (typeof value === "number") return value;
  if (typeof value !== "string") return NaN;
  return Number(value.replace("inf", "Infinity"));
}

const minus = (text) => text.replace("-", "−");

export function digits(value, count = 4) {
  if (value === null || value === undefined) return "";
  const x = number(value);
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const long = size >= 1e6 || size < 1e-4;
  const text = long ? x.toExponential(count - 2) : String(Number(x.toPrecision(count)));
  return minus(text).replace("e+", "e").replace("e−", "e-");
}

export function decibels(value) {
  if (value === null || value === undefined) return "";
  const x = number(value);
  return Number.isFinite(x) ? minus(x.toFixed(1)) : digits(value);
}

// A share in percent; what would round to 0 is shown as it is.
export function percent(value) {
  if (value === null || value === undefined) return "";
  const x = 100 * number(value);
  if (x === 0) return "0";
  return Math.abs(x) >= 0.01 ? minus(x.toFixed(Math.abs(x) < 1 ? 3 : 1)) : digits(x, 2);
}

export const plural = (count, noun) =>
  `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export function interval(ends, format = digits) {
  if (!ends) return "";
  const [low, high] = ends.map((end) => format(end, 3));
  return ends[0] === ends[1] ? low : `${low} – ${high}`;
}

// Places on a drawing, to a tenth of a pixel.
export const at = (value) => Math.round(value * 10) / 10;

// The parts of a long name between which a line may break: after a slash, a dot, an underscore.
export const parts = (name) => name.split(/(?<=[/_:])|(?<=\.)(?=\D)/);
