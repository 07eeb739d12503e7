// A layered drawing of one folder: boxes in rows, every edge down from row to row.
//
// Rows by the longest path; an edge over several rows has a bend in each; rows are ordered by the
// mean place of their neighbours (Sugiyama, Tagawa and Toda 1981), and moved sideways to it by
// least squares under the gaps between boxes, which pooling neighbours solves exactly. What is
// long and thin goes on in another column (see wrap.mjs).

import { columnsOf, corners, cuts, GAP } from "./wrap.mjs";

const GAP_X = 16, BEND = 8, SWEEPS = 6, SHIFTS = 8;
const WIDE = 600; // of a frame that is left far from where it is entered

// boxes: {w, h, pin: "top", "bottom" or undefined, reach: how far right what is told of it ends};
// they get x and y.
// links: {from, to, out, into}: indices of boxes, and where on them from their left side;
// they get `bends`, points between the boxes, or `against` where they run upwards. aspect: width
// by height of the room; without it there is one column. Returns {w, h}.
export function layered(boxes, links, aspect) {
  markAgainst(boxes, links);
  const down = links.filter((link) => !link.against);
  const rank = ranks(boxes, down);
  const rows = Array.from({ length: Math.max(0, ...rank) + 1 }, () => []);
  const slots = boxes.map((box, i) =>
    ({ box, w: box.w, row: rank[i], up: [], down: [], weight: 1 }));
  slots.forEach((slot) => rows[slot.row].push(slot));
  for (const link of down) bend(link, slots, rows, rank);
  sweep(rows);
  shift(rows);
  return finish(rows, down, aspect);
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

// Slots know their neighbours as [slot, place on it, place on themselves]; a link its path, from
// slot to slot.
function bend(link, slots, rows, rank) {
  let before = { slot: slots[link.from], out: link.out };
  link.path = [before];
  for (let row = rank[link.from] + 1; row <= rank[link.to]; row++) {
    const last = row === rank[link.to];
    const slot = last ? slots[link.to] : { w: BEND, row, up: [], down: [], weight: 4 };
    const into = last ? link.into : BEND / 2, next = { slot, into, out: into };
    before.slot.down.push([slot, into, before.out]);
    slot.up.push([before.slot, before.out, into]);
    if (!last) rows[row].push(slot);
    link.path.push(next);
    before = next;
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

function finish(rows, links, aspect) {
  if (isStairs(rows)) centre(rows);
  const extents = rows.map((row) => ({
    h: Math.max(0, ...row.map((slot) => (slot.box ? slot.box.h : 0))),
    left: leftOf(row),
    right: Math.max(...row.map((slot) => slot.x + Math.max(slot.w, slot.box?.reach || 0))),
  }));
  const lanes = rows.map(lanesOf);
  const crossing = lanes.map((row) => row.length);
  const placed = columnsOf(extents, crossing, cuts(extents, crossing, aspect));
  for (const column of placed.columns) placeRows(rows, extents, column);
  const cut = new Map(placed.columns.slice(0, -1).map((column) => [column.end - 1, column]));
  for (const link of links) link.bends = bendsOf(link, lanes, cut);
  return { w: Math.max(0, placed.w), h: Math.max(0, placed.h) };
}

const leftOf = (row) => Math.min(...row.map((slot) => slot.x));
const rightOf = (row) => Math.max(...row.map((slot) => slot.x + slot.w));

// Whether wide frames stand like stairs: each entered on its left and left on its right.
function isStairs(rows) {
  const wide = Math.max(0, ...rows.flat().map((slot) => (slot.box ? slot.w : 0)));
  const all = Math.max(...rows.map(rightOf)) - Math.min(...rows.map(leftOf));
  return wide > WIDE && all > 2 * Math.max(...rows.map((row) => rightOf(row) - leftOf(row)));
}

// Rows in the middle of each other, where straight edges would take too much room.
function centre(rows) {
  for (const row of rows) {
    const middle = (leftOf(row) + rightOf(row)) / 2;
    for (const slot of row) slot.x -= middle;
  }
}

function placeRows(rows, extents, column) {
  let y = column.top;
  for (let r = column.start; r < column.end; r++) {
    for (const slot of rows[r]) {
      Object.assign(slot, { x: slot.x - column.left + column.x, y, h: extents[r].h });
      if (slot.box) Object.assign(slot.box, { x: slot.x, y: y + (slot.h - slot.box.h) / 2 });
    }
    y += extents[r].h + GAP;
  }
}

// The places from which edges go on below a row, from the left: {slot, out}.
function lanesOf(row) {
  const found = new Map();
  for (const slot of row) {
    for (const [, , out] of slot.down) found.set(`${slot.order} ${out}`, { slot, out });
  }
  return [...found.values()].sort((a, b) => a.slot.x + a.out - b.slot.x - b.out);
}

// The points between the ends of a link; over a cut it turns corners in its lane.
function bendsOf({ path }, lanes, cut) {
  const points = [];
  path.forEach(({ slot, into, out }, k) => {
    const before = path[k - 1], column = before && cut.get(before.slot.row);
    if (column) {
      const row = lanes[before.slot.row], to = slot.x + into;
      const lane = row.findIndex((one) => one.slot === before.slot && one.out === before.out);
      const { right, top, h } = column;
      points.push(...corners(lane, row.length,
        { x: before.slot.x + before.out, right, below: top + h, to }));
    }
    if (!before || k === path.length - 1) return;
    points.push([slot.x + out, slot.y]);
    if (slot.h) points.push([slot.x + out, slot.y + slot.h]);
  });
  return points;
}
