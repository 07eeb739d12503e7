// Outputs, and the error through the graph.

import { chart } from "./charts.mjs";
import { figure, named, ranColumns } from "./columns.mjs";
import { code, dim, el, section } from "./dom.mjs";
import { decibels, number } from "./numbers.mjs";
import { agreementTable, cosine } from "./summary.mjs";
import { sortable } from "./table.mjs";

const ALONG = "SQNR of each tensor that both graphs have, from the inputs to the outputs. ";

export function comparisonSection(data) {
  const found = data.comparison;
  return section("comparison", "Comparison", agreementTable(found),
    found.tensors.length ? alongOf(found) : null);
}

function alongOf(found) {
  const worst = found.first_offender;
  const points = found.tensors.map((tensor, i) => ({
    x: i + 1, y: number(tensor.sqnr_db), className: tensor.name === worst ? "chosen" : "",
    title: `${tensor.name}: ${decibels(tensor.sqnr_db)} dB`,
  }));
  const columns = [named("tensor"), figure("sqnr_db", "SQNR, dB", decibels, { first: "up" }),
    figure("cosine", "cosine", cosine, { first: "up" }), ...ranColumns(found.tensors)];
  return [
    el("h3", {}, "Through the graph"), dim(ALONG, worst ? ["Largest drop: ", code(worst)] : ""),
    chart({ id: "drift", title: "SQNR through the graph; the table below has the tensors",
      x: "tensor, in graph order", y: "SQNR, dB", marks: [{ points, line: true, radius: 2.5 }] }),
    sortable("compared", columns, found.tensors,
      { noun: "tensor", hint: "Find a tensor", page: 12, sort: "sqnr_db", down: false }),
  ];
}
