// The cards, the outputs and the notes.

import { figure, named, ranColumns } from "./columns.mjs";
import { breakable, el, section } from "./dom.mjs";
import { decibels, digits, number, percent, plural } from "./numbers.mjs";
import { commandOf } from "./provenance.mjs";
import { sortable } from "./table.mjs";

const OPEN = 12; // outputs that are shown at once
const FEW = 4; // notes that are not

export function summarySection(data) {
  const compared = data.comparison || {};
  const cards = data.summary.map((card) => el("div", { class: `card ${card.state}` },
    el("div", { class: "card-label" }, card.label),
    el("div", { class: "card-value" }, card.value),
    el("div", { class: "card-note" }, breakable(card.note))));
  const failures = (compared.failures || []).map((line) =>
    el("p", { class: "failed" }, `Failed: ${line}`));
  const notes = [...(compared.notes || []), ...data.provenance.notes].map((note) =>
    el("li", {}, breakable(note)));
  const outputs = data.comparison ? null : data.agreement && agreementTable(data.agreement);
  const nothing = !cards.length && el("p", {}, `${plural(data.nodes.length, "node")}; `
    + "none has Q/DQ, and nothing else is known of the model.");
  return section("summary", "Summary", nothing, data.verdict ? verdictOf(data.verdict) : null,
    el("div", { class: "cards" }, cards), failures, outputs,
    notes.length ? el("details", { open: notes.length < FEW },
      el("summary", {}, plural(notes.length, "note")), el("ul", { class: "notes" }, notes)) : null);
}

// Good, doubtful or poor, by the worst part, and what to do next.
function verdictOf({ grade, worst, more, next }) {
  return el("div", { class: `verdict ${grade}` },
    el("p", { class: "verdict-line" }, el("strong", {}, grade), " ", worst),
    more ? el("p", { class: "dim" }, breakable(more)) : null,
    next ? [el("p", { class: "next" }, "Next:"), commandOf(next)] : null);
}

const short = (value) => digits(value, 3);
export const cosine = (value) => number(value).toFixed(5);

const FIGURES = {
  sqnr_db: ["SQNR, dB", decibels], psnr_db: ["PSNR, dB", decibels], cosine: ["cosine", cosine],
  mean_abs: ["mean |difference|", short], max_abs: ["largest |difference|", short],
  top1_agreement: ["same top class, %", percent], equal: ["equal, %", percent],
};

// The outputs of the float and of the quantized model.
export function agreementTable(found) {
  const known = Object.entries(FIGURES).filter(([key]) =>
    found.outputs.some((output) => output[key] !== undefined));
  const columns = [named("output"), ...known.map(([key, [name, format]]) =>
    figure(key, name, format, { first: "up" })), ...ranColumns(found.outputs)];
  const title = `${plural(found.outputs.length, "output")}, float against quantized on `
    + plural(found.samples, "sample");
  return el("details", { open: found.outputs.length <= OPEN }, el("summary", {}, title),
    sortable("outputs", columns, found.outputs, { noun: "output", plain: true, page: 100 }));
}
