// Which rows of a table are shown, and in which order.

const missing = (key) => key === undefined || key === null || Number.isNaN(key);

// The indices of the texts that hold every word.
export function found(texts, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return [...texts.keys()].filter((i) => wanted.every((word) => texts[i].includes(word)));
}

// The indices by their keys, those without one last, equal ones as they were.
export function ordered(indices, keyOf, down) {
  const keys = new Map(indices.map((i) => [i, keyOf(i)]));
  const compare = (x, y) => {
    if (typeof x === "string") return x.localeCompare(y, "en", { numeric: true });
    return x < y ? -1 : x > y ? 1 : 0;
  };
  return [...indices].sort((a, b) => {
    const x = keys.get(a), y = keys.get(b);
    if (missing(x) || missing(y)) return missing(x) - missing(y) || a - b;
    const order = compare(x, y);
    return (down ? -order : order) || a - b;
  });
}
