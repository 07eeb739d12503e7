import assert from "node:assert/strict";
import test from "node:test";

import { powers, span, ticks } from "../../../../onnxq/report/html/assets/axis.mjs";

test("ticks are round, evenly apart and within the range", () => {
  for (const [low, high] of [[0, 1], [-3, 7], [0.001, 0.0042], [1e6, 3e6], [-1e-9, 1e-9]]) {
    const found = ticks(low, high);
    assert.ok(found.length >= 2 && found.length <= 11, `${low} to ${high}: ${found}`);
    const step = found[1] - found[0], round = step / 10 ** Math.floor(Math.log10(step * 1.0001));
    assert.ok([1, 2, 2.5, 5, 10].some((m) => Math.abs(m - round) < 1e-6), `step ${step}`);
    assert.ok(found.every((x) => x >= low - step * 1e-6 && x <= high + step * 1e-6));
  }
});

test("zero is a tick and is written as zero", () => {
  assert.ok(ticks(-0.3, 0.3).includes(0));
});

test("the span has room on both sides, of one value and of none too", () => {
  assert.deepEqual(span([]), [0, 1]);
  assert.deepEqual(span([NaN, Infinity]), [0, 1]);
  const [low, high] = span([5]);
  assert.ok(low < 5 && high > 5);
  const [a, b] = span([1, 2, Infinity]);
  assert.ok(a < 1 && b > 2 && b < 3);
});

test("powers of ten are few, start at 1 and do not pass the peak", () => {
  for (const peak of [1, 9, 5000, 3e12]) {
    const found = powers(peak);
    assert.equal(found[0], 1);
    assert.ok(found.length <= 7 && found.every((c) => c <= peak + 1));
  }
});
