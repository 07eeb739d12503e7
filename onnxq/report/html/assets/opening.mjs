// Which folders are open at first.

import { scene } from "./places.mjs";

const START = 40, SMALLEST = 0.5; // so many boxes, all seen at this scale

// Opens folders, outer ones first, as long as all that is drawn can still be seen at once.
export function openSome(tree, open, width, height) {
  const folders = (thing) => thing.children.filter((child) => child.kind === "folder");
  let boxes = tree.root.children.length;
  const queue = folders(tree.root);
  while (queue.length) {
    const folder = queue.shift(), more = folder.children.length - 1;
    if (boxes + more > START) continue;
    open.add(folder.key);
    const size = scene(tree, open, width / height);
    if (Math.min(width / size.w, height / size.h) < SMALLEST) {
      open.delete(folder.key);
      continue;
    }
    boxes += more;
    queue.push(...folders(folder));
  }
}
