// Columns of a table: {key, name, title, numeric, first, short, value(row), search(row),
// show(row)}. value is what rows are sorted by; search, what is looked through.

import { code } from "./dom.mjs";
import { number } from "./numbers.mjs";

// A name out of the model.
export function named(name, of = (row) => row.name) {
  return { key: "name", name, value: of, search: of, show: (row) => code(of(row) || "–") };
}

// A word or a few.
export function word(key, name, of = (row) => row[key], more = {}) {
  return { key, name, value: of, search: (row) => of(row) || "", show: (row) => of(row) ?? "",
    ...more };
}

// A number; first: "up" where the least is the worst.
export function figure(key, name, format, { of = (row) => row[key], title, first } = {}) {
  const known = (row) => of(row) !== undefined && of(row) !== null;
  return { key, name, title, first, numeric: true,
    value: (row) => (known(row) ? number(of(row)) : undefined),
    show: (row) => (known(row) ? format(of(row)) : "") };
}
