// The classes of precision, which are the page's colours.

import { el } from "./dom.mjs";

export const KINDS = {
  int8: "8 bits", int4: "4 bits", fp8: "FP8", int16: "16 bits", float: "left float",
  none: "nothing to quantize",
};

export const chip = (node) => el("span", { class: `chip kind-${node.kind}` }, node.precision);
