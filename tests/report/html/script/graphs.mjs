// Graphs for tests.

// A chain of `count` nodes with a skip over five at every seventh; folderOf(i): its folder.
export function chain(count, folderOf) {
  const nodes = [], edges = [], folders = [];
  for (let i = 0; i < count; i++) {
    const folder = folderOf(i);
    folders[folder] = { label: `s${folder}`, path: `/s${folder}`, parent: -1 };
    nodes.push({ name: `/s${folder}/n${i}`, label: `n${i}`, op: "Relu", folder, kind: "none",
      shape: "1×4" });
    if (i) edges.push([i - 1, i, "INT8"]);
    if (i % 7 === 6) edges.push([i - 6, i, "FP32"]);
  }
  return { nodes, edges, folders, inputs: [{ name: "x", nodes: [0], shape: "1×4" }],
    outputs: [{ name: "y", nodes: [count - 1], shape: "1×4" }] };
}

// How many pairs of boxes lie on each other.
export function overlaps(boxes) {
  let found = 0;
  boxes.forEach((a, i) => {
    for (const b of boxes.slice(0, i)) {
      const apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
      found += apart ? 0 : 1;
    }
  });
  return found;
}
