// Where an arrow key leads to in a scene: up and down along edges, sideways to the next box.

const middle = (box) => [box.x + box.w / 2, box.y + box.h / 2];

// The box to go to from `box`, or null. pairs: the edges of a scene; direction: as in "ArrowUp".
export function stepFrom(box, direction, { boxes, pairs }) {
  const along = { down: ["from", "to"], up: ["to", "from"] }[direction];
  if (along) {
    const [here, there] = along;
    const keys = new Set(pairs.filter((p) => p[here].key === box.thing.key)
      .map((p) => p[there].key));
    return nearest(box, boxes.filter((other) => keys.has(other.thing.key)));
  }
  const sign = direction === "right" ? 1 : -1, [x, y] = middle(box);
  const beside = boxes.filter((other) => sign * (middle(other)[0] - x) > 1);
  const level = beside.filter((other) => other.y < y + box.h && other.y + other.h > y - box.h);
  return nearest(box, level);
}

function nearest(box, others) {
  const [x, y] = middle(box);
  const far = (other) => Math.hypot(middle(other)[0] - x, middle(other)[1] - y);
  return others.reduce((a, b) => (a && far(a) <= far(b) ? a : b), null);
}
