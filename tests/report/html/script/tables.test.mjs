import assert from "node:assert/strict";
import test from "node:test";

import { digits, interval, number, parts, percent }
  from "../../../../onnxq/report/html/assets/numbers.mjs";
import { found, ordered } from "../../../../onnxq/report/html/assets/order.mjs";

test("rows are found by every word, in any order", () => {
  const texts = ["conv int8", "conv fp32", "relu fp32"];
  assert.deepEqual(found(texts, "FP32  conv"), [1]);
  assert.deepEqual(found(texts, ""), [0, 1, 2]);
});

test("rows without a value come last both ways, equal ones stay as they were", () => {
  const keys = [2, undefined, 1, NaN, 2];
  assert.deepEqual(ordered([0, 1, 2, 3, 4], (i) => keys[i], false), [2, 0, 4, 1, 3]);
  assert.deepEqual(ordered([0, 1, 2, 3, 4], (i) => keys[i], true), [0, 4, 2, 1, 3]);
});

test("names sort by the numbers in them", () => {
  const names = ["n10", "n9", "n1"];
  assert.deepEqual(ordered([0, 1, 2], (i) => names[i], false), [2, 1, 0]);
});

test("numbers are short, and infinite ones have a sign", () => {
  assert.deepEqual([1234.5, 0.00001234, -0.5, "inf", "-inf", "nan", null].map((v) => digits(v)),
    ["1235", "1.23e-5", "−0.5", "∞", "−∞", "NaN", ""]);
  assert.equal(number("-inf"), -Infinity);
  assert.deepEqual([0, 0.00001, 0.005, 0.5].map(percent), ["0", "0.001", "0.500", "50.0"]);
  assert.equal(interval([1, 1]), "1");
  assert.equal(interval([1, 2]), "1 – 2");
});

test("a long name breaks after slashes, dots and underscores, not within numbers", () => {
  assert.deepEqual(parts("/model.10/cv_1.5x"), ["/", "model.10/", "cv_", "1.5x"]);
  assert.equal(parts("/a.b/c").join(""), "/a.b/c");
});
