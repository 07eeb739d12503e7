// A layered drawing of one folder: boxes in rows, every edge down from row to row.
//
// Rows by the longest path; an edge over several rows has a bend in each; rows are ordered by the
// mean place of their neighbours (Sugiyama, Tagawa and Toda 1981), and moved sideways to it by
// least squares under the gaps between boxes, which pooling neighbours solves exactly.

const GAP_X = 16, GAP_Y = 26, BEND = 8, SWEEPS = 6, SHIFTS = 8;

// boxes: {w, h, pin: "top", "bottom" or undefined}; they get x and y.
// links: {from, to, out, into}: indices of boxes, and where on them from their left side;
// they get `bends`, points between the boxes, or `against` where they run upwards.
function layered(boxes, links) {
  markAgainst(boxes, links);
  const down = links.filter((link) => !link.against);
  const rank = ranks(boxes, down);
  const rows = Array.from({ length: Math.max(0, ...rank) + 1 }, () => []);
  const slots = boxes.map((box, i) => ({ box, w: box.w, row: rank[i], up: [], down: [], weight: 1 }));
  slots.forEach((slot) => rows[slot.row].push(slot));
  for (const link of down) bend(link, slots, rows, rank);
  sweep(rows);
  shift(rows);
  return finish(boxes, rows, down);
}

function markAgainst(boxes, links) {
  const next = boxes.map(() => []);
  for (const link of links) {
    link.against = false;
    next[link.from].push(link);
  }
  const state = new Uint8Array(boxes.length); // 1: on the way, 2: done
  for (let root = 0; root < boxes.length; root++) {
    const stack = state[root] ? [] : [[root, 0]];
    while (stack.length) {
      const top = stack[stack.length - 1];
      const link = next[top[0]][top[1]++];
      if (!top[1] || !link) {
        state[top[0]] = 2;
        stack.pop();
        continue;
      }
      state[top[0]] = 1;
      if (state[link.to] === 1) link.against = true;
      else if (!state[link.to]) stack.push([link.to, 0]);
    }
  }
}

function ranks(boxes, links) {
  const waits = boxes.map(() => 0), next = boxes.map(() => []);
  for (const link of links) {
    waits[link.to]++;
    next[link.from].push(link.to);
  }
  const anyTop = boxes.some((box) => box.pin === "top");
  const rank = boxes.map((box) => (anyTop && box.pin !== "top" ? 1 : 0));
  const queue = [...boxes.keys()].filter((i) => !waits[i]), order = [];
  while (queue.length) {
    const i = queue.shift();
    order.push(i);
    for (const j of next[i]) {
      rank[j] = Math.max(rank[j], rank[i] + 1);
      if (!--waits[j]) queue.push(j);
    }
  }
  const read = new Set(links.map((link) => link.to));
  for (const i of order.reverse()) { // what nothing leads to stands just above its readers
    if (!read.has(i) && !boxes[i].pin && next[i].length) {
      rank[i] = Math.min(...next[i].map((j) => rank[j])) - 1;
    }
  }
  const last = Math.max(0, ...rank.filter((_, i) => boxes[i].pin !== "bottom")) + 1;
  return rank.map((r, i) => (boxes[i].pin === "bottom" ? last : r));
}

// Slots know their neighbours as [slot, place on it, place on themselves].
function bend(link, slots, rows, rank) {
  let before = slots[link.from], out = link.out;
  link.slots = [];
  for (let row = rank[link.from] + 1; row <= rank[link.to]; row++) {
    const last = row === rank[link.to];
    const slot = last ? slots[link.to] : { w: BEND, row, up: [], down: [], weight: 4 };
    const into = last ? link.into : BEND / 2;
    before.down.push([slot, into, out]);
    slot.up.push([before, out, into]);
    if (!last) {
      rows[row].push(slot);
      link.slots.push(slot);
    }
    [before, out] = [slot, into];
  }
}

function sweep(rows) {
  const number = (row) => row.forEach((slot, i) => { slot.order = i; });
  rows.forEach(number);
  for (let k = 0; k < SWEEPS; k++) {
    const side = k % 2 ? "down" : "up";
    for (const row of k % 2 ? [...rows].reverse() : rows) {
      for (const slot of row) {
        const near = slot[side].map(([other, place]) => other.order + place / (other.w + 1));
        slot.key = near.length ? near.reduce((a, b) => a + b) / near.length : slot.order;
      }
      row.sort((a, b) => a.key - b.key || a.order - b.order);
      number(row);
    }
  }
}

function shift(rows) {
  for (const row of rows) {
    let x = 0;
    for (const slot of row) {
      slot.x = x;
      x += slot.w + GAP_X;
    }
  }
  for (let k = 0; k < SHIFTS; k++) {
    for (const row of k % 2 ? [...rows].reverse() : rows) settle(row, k % 2 ? "down" : "up");
  }
}

// Moves a row as near as it gets to where its neighbours want it; its order and gaps stay.
function settle(row, side) {
  const pools = [];
  let offset = 0;
  for (const slot of row) {
    const near = slot[side].map(([other, place, own]) => other.x + place - own);
    const wish = near.length ? near.reduce((a, b) => a + b) / near.length : slot.x;
    const weight = near.length ? slot.weight * near.length : 0.01;
    pools.push({ sum: (wish - offset) * weight, weight, slots: [[slot, offset]] });
    offset += slot.w + GAP_X;
    while (pools.length > 1) {
      const [a, b] = pools.slice(-2);
      if (a.sum / a.weight <= b.sum / b.weight) break;
      pools.pop();
      a.sum += b.sum;
      a.weight += b.weight;
      a.slots.push(...b.slots);
    }
  }
  for (const pool of pools) {
    for (const [slot, at] of pool.slots) slot.x = pool.sum / pool.weight + at;
  }
}

function finish(boxes, rows, links) {
  let y = 0, left = Infinity, right = -Infinity;
  for (const row of rows) {
    const height = Math.max(0, ...row.map((slot) => (slot.box ? slot.box.h : 0)));
    for (const slot of row) {
      slot.y = y;
      slot.h = height;
      left = Math.min(left, slot.x);
      right = Math.max(right, slot.x + slot.w);
      if (slot.box) slot.box.y = y + (height - slot.box.h) / 2;
    }
    y += height + GAP_Y;
  }
  for (const row of rows) for (const slot of row) if (slot.box) slot.box.x = slot.x - left;
  for (const link of links) {
    link.bends = link.slots.flatMap((slot) => {
      const x = slot.x - left + BEND / 2;
      return slot.h ? [[x, slot.y], [x, slot.y + slot.h]] : [[x, slot.y]];
    });
  }
  return { w: Math.max(0, right - left), h: Math.max(0, y - GAP_Y) };
}
