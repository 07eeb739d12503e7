// Columns of a table: {key, name, title, numeric, first, width, value(row), search(row),
// show(row)}. value is what rows are sorted by; search, what is looked through.

import { code } from "./dom.mjs";
import { number, percent } from "./numbers.mjs";

// A name out of the model.
export function named(name, of = (row) => row.name) {
  return { key: "name", name, value: of, search: of, show: (row) => code(of(row) || "–") };
}

// What computed each row's tensor, in what and how long, where the layers of an engine tell.
export function ranColumns(rows) {
  if (!rows.some((row) => row.ran)) return [];
  const time = (ms) => number(ms).toFixed(4);
  const timed = rows.some((row) => known(row.ms));
  return [{ ...named("computed by", (row) => row.by), key: "by" }, word("ran", "ran in"),
    ...(timed ? [figure("ms", "ms", time), figure("ran_share", "share, %", percent)] : [])];
}

// A word or a few.
export function word(key, name, of = (row) => row[key], more = {}) {
  return { key, name, value: of, search: (row) => of(row) || "", show: (row) => of(row) ?? "",
    ...more };
}

// A number; first: "up" where the least is the worst.
export function figure(key, name, format, { of = (row) => row[key], title, first } = {}) {
  return { key, name, title, first, numeric: true,
    value: (row) => (known(of(row)) ? number(of(row)) : undefined),
    show: (row) => (known(of(row)) ? format(of(row)) : "") };
}

const known = (value) => value !== undefined && value !== null;
