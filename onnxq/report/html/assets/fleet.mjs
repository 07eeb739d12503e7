// What becomes of the model on every GPU.

import { figure, word } from "./columns.mjs";
import { breakable, el, section, text } from "./dom.mjs";
import { sortable } from "./table.mjs";

const MB = 1e6;

export function fleetSection(data) {
  const found = data.fleet;
  const stateOf = (cell) => text(cell.state === "refused" ? "bad" : "", cell.state);
  const columns = [
    word("arch", "architecture"), word("device", "GPU", undefined, { width: "short" }),
    word("form", "form", undefined, { width: "short" }),
    word("state", "state", undefined, { show: stateOf, width: "short" }),
    { ...figure("covered", "as meant", String),
      show: (c) => (c.covered === null ? "" : `${c.covered} of ${c.meant}`) },
    figure("kernels", "kernels", String), figure("moved", "MB moved", (v) => (v / MB).toFixed(1)),
    word("why", "why", undefined, { show: (cell) => breakable(cell.why || ""), width: "long" }),
  ];
  return section("fleet", "Every GPU",
    el("p", {}, found.ok ? "No GPU refuses it." : "Some refuse it."),
    sortable("fleet", columns, found.cells, { noun: "build", hint: "Find a GPU", page: 24 }));
}
