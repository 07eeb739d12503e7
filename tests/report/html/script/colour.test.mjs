import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { contrast, inkOn, mixed, parsed }
  from "../../../../onnxq/report/html/assets/colour.mjs";

const css = readFileSync(
  new URL("../../../../onnxq/report/html/assets/page.css", import.meta.url), "utf8");

// The palettes of the page: light, dark.
const screen = css.split("@media print")[0];
const palettes = screen.split("prefers-color-scheme: dark").map((part) =>
  Object.fromEntries([...part.matchAll(/--([\w-]+): (#[0-9a-f]{3,6})/g)].map((m) =>
    [m[1], parsed(m[2])])));
const KINDS = ["int8", "int4", "fp8", "int16", "float", "none"];
const INKS = [[0, 0, 0], [255, 255, 255]];

test("contrast is that of WCAG", () => {
  assert.equal(contrast(parsed("#000"), parsed("#ffffff")), 21);
  assert.equal(contrast([9, 9, 9], [9, 9, 9]), 1);
  assert.ok(Math.abs(contrast(parsed("#777"), parsed("#fff")) - 4.48) < 0.01); // known from WCAG
});

test("every text of both palettes can be read on what is behind it", () => {
  assert.equal(palettes.length, 2);
  for (const palette of palettes) {
    const pairs = [
      ...KINDS.map((kind) => [`${kind}-ink`, kind]), ...KINDS.map((kind) => ["ink", kind]),
      ...KINDS.map((kind) => ["dim", kind]),
      ...["ink", "dim", "accent", "good", "bad", "doubt"].flatMap((ink) =>
        ["panel", "bg", "soft"].map((behind) => [ink, behind])),
    ];
    for (const [ink, behind] of pairs) {
      const found = contrast(palette[ink], palette[behind]);
      assert.ok(found >= 4.5, `--${ink} on --${behind}: ${found.toFixed(2)}`);
    }
  }
});

test("the ink on any shade of damage can be read", () => {
  for (const { hot, panel } of palettes) {
    for (let heat = 0; heat <= 1; heat += 0.05) {
      const fill = mixed(panel, hot, heat);
      assert.ok(contrast(inkOn(fill, INKS), fill) >= 4.5);
    }
  }
});
