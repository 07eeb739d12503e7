// The histogram of one tensor with the range of every method, and the table of tensors beside it.

const METHOD_CLASS = { max: "m-max", percentile: "m-percentile", mse: "m-mse", entropy: "m-entropy" };

function histogramChart(tensor) {
  const { low, high, counts } = tensor.histogram;
  const W = chartWidth(), H = 280, left = 52, right = 14, top = 64, bottom = 34;
  const used = tensor.used, signed = low < 0;
  const ends = (entry) => (entry.low !== undefined ? [entry.low, entry.high] : signed ? [-entry.amax, entry.amax] : [entry.amax]);
  const every = [...tensor.readings.map((r) => ({ ...r, className: METHOD_CLASS[r.method], name: r.method })), ...(used ? [{ ...used, className: "m-used", name: "used" }] : [])];
  const marks = every.flatMap(ends);
  const x0 = Math.min(low, 0, ...marks), x1 = Math.max(high, ...marks), wide = (x1 - x0) || 1;
  const px = (v) => left + (v - x0) / wide * (W - left - right);
  const peak = Math.log10(1 + Math.max(1, ...counts)), py = (c) => H - bottom - Math.log10(1 + c) / peak * (H - bottom - top);
  const step = (high - low) / counts.length || wide / counts.length;
  const columns = counts.map((count, i) => {
    if (!count) return null;
    const a = low + i * step, x = px(a), width = Math.max(0.6, px(a + step) - x - 0.4);
    return svg("rect", { class: "column", x: at(x), y: at(py(count)), width: at(width), height: at(H - bottom - py(count)) }, svg("title", {}, `${digits(a)} to ${digits(a + step)}: ${digits(count, 3)} values`));
  });
  const lines = every.map((entry, i) => ends(entry).map((v, k, all) => svg("g", { class: `mark ${entry.className}` },
    svg("title", {}, `${entry.name}: ${digits(v)}`),
    svg("line", { x1: at(px(v)), x2: at(px(v)), y1: 14 + 11 * i, y2: H - bottom }),
    k === all.length - 1 ? svg("text", { x: at(px(v) - 4), y: 12 + 11 * i, "text-anchor": "end" }, entry.name) : null)));
  const powers = Array.from({ length: Math.floor(peak) + 1 }, (_, i) => 10 ** i).filter((c, i) => i % Math.ceil(peak / 6) === 0 && Math.log10(1 + c) <= peak);
  const grid = powers.map((c) => [svg("line", { class: "grid", x1: left, x2: W - right, y1: py(c), y2: py(c) }), svg("text", { class: "tick", x: left - 6, y: py(c) + 4, "text-anchor": "end" }, c < 1e5 ? String(c) : c.toExponential(0).replace("e+", "e"))]);
  return svg("svg", { class: "chart", id: "histogram", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Histogram of ${tensor.name}` },
    grid, columns, lines, svg("line", { class: "axis", x1: left, x2: W - right, y1: H - bottom, y2: H - bottom }),
    ticks(x0, x1, W / 90).map((v) => svg("text", { class: "tick", x: px(v), y: H - bottom + 16, "text-anchor": "middle" }, digits(v))),
    svg("text", { class: "axis-name", x: (left + W) / 2, y: H - 2, "text-anchor": "middle" }, "value; counts on a logarithmic scale"));
}

function readingsTable(tensor) {
  const rows = tensor.readings.map((r) => ({ ...r, name: r.method, className: METHOD_CLASS[r.method] }));
  if (tensor.used) rows.unshift({ ...tensor.used, name: `used: ${tensor.used.method}`, className: "m-used" });
  const best = Math.max(...rows.map((r) => number(r.sqnr)).filter((v) => !Number.isNaN(v)));
  return el("div", { class: "scroll" }, el("table", { class: "readings", id: "readings" },
    el("thead", {}, el("tr", {}, ["method", "amax", "SQNR, dB", "MSE", "clipped %"].map((name, k) => el("th", { scope: "col", class: k ? "number" : "" }, name)))),
    el("tbody", {}, rows.map((r) => el("tr", { class: number(r.sqnr) === best ? "best" : "" },
      el("th", { scope: "row" }, el("span", { class: `key ${r.className}` }), r.name),
      el("td", { class: "number" }, r.low !== undefined ? `${digits(r.low)} – ${digits(r.high)}` : digits(r.amax)),
      el("td", { class: "number" }, decibels(r.sqnr)), el("td", { class: "number" }, digits(r.expected_error, 3)), el("td", { class: "number" }, percent(r.sat_ratio)))))));
}

function tensorsSection(data) {
  const view = el("div", { id: "tensor" });
  const drawn = data.tensors.some((tensor) => tensor.histogram);
  function show(place, scroll) {
    const tensor = data.tensors[place];
    view.replaceChildren(el("h3", {}, el("code", {}, breakable(tensor.name)), tensor.type ? ` ${tensor.type}` : ""),
      ...(tensor.histogram ? [el("div", { class: "beside" }, histogramChart(tensor), readingsTable(tensor))]
        : [el("p", {}, tensor.used ? `amax ${digits(tensor.used.amax)} by ${tensor.used.method}, ${percent(tensor.used.sat_ratio)} % clipped, mean squared error ${digits(tensor.used.expected_error, 3)}.` : "No range is known."),
          drawn ? null : el("p", { class: "dim" }, "Give the statistics (--stats) to see histograms and what other methods read off them.")]).filter(Boolean));
    if (scroll) made.scrollIntoView({ block: "start" });
  }
  const has = (key) => data.tensors.some((tensor) => tensor.used && tensor.used[key] !== undefined);
  const best = (tensor) => {
    const known = (tensor.readings || []).filter((r) => Number.isFinite(number(r.sqnr)));
    return known.length ? known.reduce((a, b) => (number(b.sqnr) > number(a.sqnr) ? b : a)).method : undefined;
  };
  const used = (key) => (tensor) => tensor.used && number(tensor.used[key]);
  const columns = [
    { key: "name", name: "tensor", value: (t) => t.name, search: (t) => t.name, show: (t) => el("code", {}, breakable(t.name)) },
    { key: "type", name: "type", value: (t) => t.type, search: (t) => t.type || "", show: (t) => t.type || "–" },
    has("amax") && { key: "amax", name: "amax", numeric: true, value: used("amax"), show: (t) => (t.used ? digits(t.used.amax) : "") },
    has("sat_ratio") && { key: "sat", name: "clipped %", numeric: true, value: used("sat_ratio"), show: (t) => (t.used ? percent(t.used.sat_ratio) : "") },
    has("expected_error") && { key: "mse", name: "expected MSE", numeric: true, value: used("expected_error"), show: (t) => (t.used ? digits(t.used.expected_error, 3) : "") },
    has("sqnr") && { key: "sqnr", name: "expected SQNR, dB", numeric: true, first: "up", value: used("sqnr"), show: (t) => (t.used ? decibels(t.used.sqnr) : "") },
    drawn && { key: "best", name: "best alone", title: "The method with the least error on this tensor alone", value: best, search: (t) => best(t) || "", show: (t) => best(t) || "" },
  ].filter(Boolean);
  const table = sortable("tensors", columns, data.tensors, { noun: "tensor", hint: "Find a tensor", onrow: (i) => show(i, true), page: 12, sort: has("sqnr") ? "sqnr" : "sat", down: !has("sqnr") });
  const made = section("tensors", "Tensors", el("p", { class: "dim" }, drawn
    ? "What each range clips and rounds away: SQNR and mean squared error that the calibration's histograms foretell. Choose a tensor to see it; each method reads the tensor's own values, where the used range may be shared with others."
    : "The range of each tensor, what it clips, and the error it is expected to make."), view, table);
  const worst = data.tensors.map((t, i) => [t.used && t.used.sqnr !== undefined ? number(t.used.sqnr) : Infinity, i]).sort((a, b) => a[0] - b[0])[0];
  show(worst[1]);
  return { made, show };
}
