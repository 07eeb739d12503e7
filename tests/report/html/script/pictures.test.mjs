import assert from "node:assert/strict";
import test from "node:test";

import { described, labelPlace }
  from "../../../../onnxq/report/html/assets/pictures.mjs";

test("a label stands above its box, and within the picture", () => {
  const place = labelPlace([100, 100], "person 0.92", 10, 640);
  assert.equal(place.x, 100);
  assert.equal(place.y + place.height, 100);
  const top = labelPlace([630, 2], "person 0.92", 10, 640);
  assert.ok(top.x + top.width <= 640);
  assert.equal(top.y, 2);
});

test("a picture of detections is described, at most by its first eight", () => {
  const found = Array.from({ length: 9 }, (_, i) => ({ label: `dog 0.${9 - i}` }));
  assert.equal(described(found.slice(0, 1), "float", 3), "Sample 3, float model: dog 0.9");
  assert.match(described(found, "float", 3), / and 1 more$/);
  assert.equal(described([], "quantized", 1), "Sample 1, quantized model: nothing found");
});
