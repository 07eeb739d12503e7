import assert from "node:assert/strict";
import test from "node:test";

import { layered } from "../../../../onnxq/report/html/assets/layered.mjs";
import { scene } from "../../../../onnxq/report/html/assets/places.mjs";
import { openSome } from "../../../../onnxq/report/html/assets/opening.mjs";
import { treeOf } from "../../../../onnxq/report/html/assets/tree.mjs";
import { within } from "../../../../onnxq/report/html/assets/viewport.mjs";
import { stepFrom } from "../../../../onnxq/report/html/assets/walking.mjs";
import { chain, overlaps } from "./graphs.mjs";

const boxes = (count) => Array.from({ length: count }, () => ({ w: 70, h: 36 }));
const link = (from, to) => ({ from, to, out: 35, into: 35 });
const chained = (count) => Array.from({ length: count - 1 }, (_, i) => link(i, i + 1));

test("a chain is one column where nobody says how much room there is", () => {
  const made = boxes(30);
  layered(made, chained(30));
  assert.equal(new Set(made.map((box) => Math.round(box.x))).size, 1);
});

test("a long chain takes the width of a wide screen", () => {
  const made = boxes(80), { w, h } = layered(made, chained(80), 2);
  assert.ok(w / h > 1.2 && w / h < 3.5, `${w} by ${h}`);
  assert.equal(overlaps(made), 0);
});

test("a long chain stays narrow on a phone", () => {
  const made = boxes(30), { w, h } = layered(made, chained(30), 0.6);
  assert.ok(w / h < 1, `${w} by ${h}`);
});

test("a short chain is not cut", () => {
  const made = boxes(3);
  layered(made, chained(3), 1.7);
  assert.equal(new Set(made.map((box) => Math.round(box.x))).size, 1);
});

test("an edge over a cut turns around its column without touching a box", () => {
  const made = boxes(40), links = [...chained(40), link(0, 39), link(3, 30), link(18, 22)];
  layered(made, links, 2);
  const inside = ([x, y], box) =>
    x > box.x + 1 && x < box.x + box.w - 1 && y > box.y + 1 && y < box.y + box.h - 1;
  const cut = links.filter((one) => one.bends.some((bend) => bend[2]));
  assert.ok(cut.length > 3);
  for (const { bends } of cut) {
    const corners = bends.filter((bend) => bend[2]);
    assert.equal(corners.length % 4, 0);
    corners.slice(1).forEach((point, i) => {
      for (let t = 0; t <= 1; t += 0.02) {
        const at = [0, 1].map((k) => corners[i][k] + (point[k] - corners[i][k]) * t);
        if (i % 4 !== 3) assert.ok(!made.some((box) => inside(at, box)), `${at}`);
      }
    });
  }
});

test("wide frames that are entered left and left on the right do not stand like stairs", () => {
  const made = Array.from({ length: 20 }, () => ({ w: 1500, h: 800 }));
  const links = Array.from({ length: 19 }, (_, i) => ({ from: i, to: i + 1, out: 1450, into: 50 }));
  const { w, h } = layered(made, links, 1.7);
  assert.ok(w * h < 3 * 20 * 1500 * 800, `${w} by ${h}`);
  assert.equal(overlaps(made), 0);
});

test("moving to a place leaves no part of the canvas empty for nothing", () => {
  assert.equal(within(300, 2000, 800), 10);
  assert.equal(within(-5000, 2000, 800), -1210);
  assert.equal(within(-400, 2000, 800), -400);
  assert.equal(within(900, 500, 800), 300);
});

test("edges that run back are marked, and no two boxes overlap", () => {
  const made = boxes(5), links = [...chained(5), link(4, 1)];
  layered(made, links, 1.7);
  assert.deepEqual(links.map((one) => one.against), [false, false, false, false, true]);
  assert.equal(overlaps(made), 0);
});

test("folders open as long as all can be seen, and only the open ones are frames", () => {
  const tree = treeOf(chain(100, (i) => Math.floor(i / 5))), open = new Set();
  const few = scene(tree, open, 1.7);
  assert.equal(few.frames.length, 0);
  assert.equal(few.boxes.length, 22);
  openSome(tree, open, 1100, 640);
  const some = scene(tree, open, 1.7);
  assert.ok(open.size > 0 && open.size < 20);
  assert.equal(some.frames.length, open.size);
  assert.equal(overlaps(some.boxes), 0);
});

test("an edge carries the shapes and the types of all that it stands for", () => {
  const tree = treeOf(chain(10, (i) => Math.floor(i / 5)));
  const { pairs } = scene(tree, new Set(), 1.7);
  const [between] = pairs.filter((pair) => pair.from.key === "f0");
  assert.deepEqual([...between.shapes], ["1×4"]);
  assert.deepEqual([...between.types], ["INT8", "FP32"]);
});

test("arrows follow edges up and down, and go to the next box sideways", () => {
  const tree = treeOf(chain(100, (i) => Math.floor(i / 5)));
  const drawn = scene(tree, new Set(), 1.7);
  const at = (key) => drawn.boxes.find((box) => box.thing.key === key);
  assert.equal(stepFrom(at("f3"), "down", drawn).thing.key, "f4");
  assert.equal(stepFrom(at("f3"), "up", drawn).thing.key, "f2");
  assert.equal(stepFrom(at("input0"), "up", drawn), null);
  const right = stepFrom(at("input0"), "right", drawn);
  assert.ok(right.x > at("input0").x);
  assert.ok(stepFrom(right, "left", drawn).x < right.x);
});

test("two thousand nodes, all unfolded, are laid out in a few seconds at most", () => {
  const tree = treeOf(chain(2000, (i) => Math.floor(i / 25)));
  const start = performance.now();
  const drawn = scene(tree, new Set(tree.folders.map((folder) => folder.key)), 1.7);
  const took = performance.now() - start;
  assert.equal(drawn.boxes.length, 2002);
  assert.equal(overlaps(drawn.boxes), 0);
  assert.ok(took < 3000, `${took} ms`); // takes 0.1 s; the rest is for a busy machine
});
