// Where the model came from, and the commands that do it again.

import { breakable, bullets, button, el, pairs, say, section, text } from "./dom.mjs";
import { decibels, digits, plural } from "./numbers.mjs";

export function provenanceSection(data) {
  const found = data.provenance;
  const shown = (rows) => pairs(rows.map(([name, value]) =>
    [name, typeof value === "string" ? breakable(value) : digits(value, 6)]));
  const block = (title, inside) => el("div", {}, el("h3", {}, title), inside);
  const listed = (title, rows) => (rows.length ? block(title, shown(rows)) : null);
  const recovered = found.recovered.filter((r) => r.kept + r.undone).map(recoveryOf);
  const commands = found.commands.map((line) => el("li", {}, commandOf(line)));
  return section("provenance", "Provenance",
    el("div", { class: "columns" }, listed("From", found.facts), listed("Versions", found.versions),
      listed("Options that are not the defaults", found.options),
      listed("Seconds", found.seconds)),
    recovered.length ? block("Recovered", el("ul", {}, recovered)) : null,
    commands.length ? block("To repeat it", el("ol", { class: "commands" }, commands)) : null);
}

// A line to copy.
export function commandOf(line) {
  const copy = (event) => navigator.clipboard.writeText(line).then(() => {
    event.target.textContent = "Copied";
    say("Copied");
  }, () => say("Could not copy"));
  const attributes = { tabindex: 0, role: "group", "aria-label": "Command" };
  return el("div", { class: "command" }, el("pre", attributes, el("code", {}, line)),
    button("Copy", copy, { class: "copy" }));
}

function recoveryOf(r) {
  const gains = r.sqnr.map(([name, before, after]) =>
    `${name} ${decibels(before)} → ${decibels(after)} dB`);
  return el("li", {}, `${r.algorithm}: kept at ${r.kept} of ${plural(r.kept + r.undone, "node")}`,
    r.kept && gains.length ? text("dim", ` (${gains.join(", ")})`) : "",
    r.notes.length ? bullets(r.notes) : null);
}
