// Colours as [red, green, blue] of 0 to 255, and whether one can be read on the other.

export function parsed(text) {
  const hex = text.trim().replace("#", "");
  const long = hex.length === 3 ? [...hex].map((c) => c + c).join("") : hex;
  return [0, 2, 4].map((i) => parseInt(long.slice(i, i + 2), 16));
}

export const mixed = (a, b, share) => a.map((v, i) => Math.round(v + (b[i] - v) * share));

export const written = (colour) => `rgb(${colour.join(" ")})`;

// Relative luminance, 0 to 1 (WCAG 2.2).
export function luminance(colour) {
  const linear = colour.map((v) => v / 255).map((v) =>
    (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

// From 1 to 21; text is to have 4.5 at least (WCAG 2.2, level AA).
export function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

// Which of the inks is easier to read on a colour.
export const inkOn = (colour, inks) =>
  inks.reduce((a, b) => (contrast(b, colour) > contrast(a, colour) ? b : a));
