// Axes: round numbers on them, and the room around what is drawn.

// About `count` round numbers from low to high.
export function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= rough);
  const found = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + step * 1e-9; x += step) {
    found.push(Math.abs(x) < step * 1e-9 ? 0 : x);
  }
  return found;
}

// From the least to the largest finite value, with some room on both sides.
export function span(values) {
  const finite = values.filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  const low = Math.min(...finite), high = Math.max(...finite);
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

// Powers of ten up to `peak`, of which at most about six are kept.
export function powers(peak) {
  const high = Math.log10(1 + peak);
  const every = Math.ceil(high / 6) || 1;
  const all = Array.from({ length: Math.floor(high) + 1 }, (_, i) => 10 ** i);
  return all.filter((c, i) => i % every === 0 && Math.log10(1 + c) <= high);
}
