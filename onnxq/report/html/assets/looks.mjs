// How a thing in the graph looks: its class, colours and title, by precision or by damage.

import { inkOn, mixed, parsed, written } from "./colour.mjs";
import { plural, percent } from "./numbers.mjs";
import { sizeText } from "./tree.mjs";

// kindsOf(folder): how many of its nodes are of each kind; lookOf(thing), for the chosen colour.
export function looks(data, tree) {
  const kinds = new Map(tree.folders.map((folder) => [folder, counted(folder, data)]));
  const shares = data.nodes.map((node) => Math.max(0, node.share || 0));
  const worst = Math.max(0, ...shares);
  const found = { by: "precision", worst, kindsOf: (folder) => kinds.get(folder) };
  found.lookOf = (thing) => {
    if (thing.kind === "input" || thing.kind === "output") {
      const shape = thing.shape ? `, ${thing.shape}` : "";
      return { className: "end", title: `${thing.label}: ${thing.kind} of the graph${shape}` };
    }
    const row = thing.kind === "node" ? data.nodes[thing.index] : null;
    const title = titleOf(thing, row);
    if (found.by === "precision") return { className: row ? `kind-${row.kind}` : "", title };
    const share = thing.nodes.reduce((sum, i) => sum + shares[i], 0);
    const heat = worst ? Math.sqrt(Math.min(1, share / worst)) : 0;
    return { className: "", title: `${title}; ${percent(share)} % of the damage`, ...heated(heat) };
  };
  return found;
}

// What is read on a box comes first, so that who speaks to the page can say it.
function titleOf(thing, row) {
  if (!row) return `+ ${thing.label} ${sizeText(thing)}, closed folder ${thing.path}`;
  return `${row.op} ${row.name}, ${row.precision}${row.shape ? `, writes ${row.shape}` : ""}`;
}

function counted(folder, data) {
  const counts = {};
  for (const i of folder.nodes) {
    const kind = data.nodes[i].kind;
    counts[kind] = (counts[kind] || 0) + 1;
  }
  return counts;
}

function heated(heat) {
  const style = getComputedStyle(document.documentElement);
  const [hot, panel] = ["--hot", "--panel"].map((name) => parsed(style.getPropertyValue(name)));
  const fill = mixed(panel, hot, heat);
  const ink = `fill:${written(inkOn(fill, [[0, 0, 0], [255, 255, 255]]))}`;
  return { style: `--heat:${Math.round(100 * heat)}%;fill:${written(fill)}`, ink };
}

// The colours and what they mean are told in words too.
export const describe = (data) => `${plural(data.nodes.length, "node")}, `
  + `${data.nodes.filter((node) => !["float", "none"].includes(node.kind)).length} quantized`;
