"use strict";
/* Draws the page from the JSON in #xft-data. No library, nothing from outside. */
const data = JSON.parse(document.getElementById("xft-data").textContent);
const root = document.documentElement, main = document.getElementById("main"), tip = document.getElementById("tip");
const heats = []; // drawn anew when the theme changes
const drawn = new Map(); // charts, drawn anew when their width changes
const widths = new ResizeObserver(entries => entries.forEach(e => drawn.get(e.target)()));

/* ---- Elements ---- */

function element(parent, name, attributes, ...content) {
  const svg = /^(svg|g|path|line|text|circle|rect|clipPath)$/.test(name);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) if (value !== undefined) e.setAttribute(key, value);
  e.append(...content);
  if (parent) parent.append(e);
  return e;
}
const colour = token => getComputedStyle(root).getPropertyValue(token).trim();

/* ---- Numbers ---- */

const known = v => typeof v === "number" && isFinite(v);
const last = list => (list || []).filter(known).at(-1);
const most = list => Math.max(...list.filter(known));
function figure(v, digits = 4) {
  if (!known(v)) return "–";
  if (v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e6)) return v.toExponential(2).replace(/\.?0*e\+?/, "e");
  return Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : String(+v.toPrecision(digits));
}
const share = v => (known(v) ? (100 * v).toFixed(1) + " %" : "–");
function bytes(v) {
  if (!known(v)) return "–";
  const power = Math.max(0, Math.min(4, Math.floor(Math.log2(Math.max(v, 1)) / 10)));
  return figure(v / 1024 ** power, 3) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][power];
}
function duration(s) {
  if (!known(s)) return "–";
  if (s < 60) return figure(s, 2) + " s";
  const minutes = Math.round(s / 60);
  return minutes < 60 ? minutes + " min" : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
}
const date = text => (text ? text.replace("T", " ").replace(/(:\d\d)(\.\d+)?Z$/, "$1 UTC") : "–");
function median(list) {
  const sorted = list.filter(known).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
/* Mean over the neighbours within half a window. */
function smooth(list, width) {
  const half = Math.floor(width / 2);
  return list.map((_, i) => {
    const part = list.slice(Math.max(0, i - half), i + half + 1).filter(known);
    return part.length ? part.reduce((a, b) => a + b) / part.length : null;
  });
}
/* About `count` round numbers from low to high. */
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(m => m * power >= rough * 0.999);
  const list = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) list.push(+(k * step).toPrecision(12));
  return list;
}

/* ---- Tooltip ---- */

function show(x, y, head, rows) {
  tip.replaceChildren(element(null, "div", { class: "soft" }, head));
  for (const [token, name, value] of rows) {
    const row = element(tip, "div");
    if (token) element(row, "span", { class: "swatch", style: `background:${token}` });
    row.append(name);
    element(row, "b", {}, value);
  }
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = Math.max(4, y + box.height + 20 > innerHeight ? y - box.height - 10 : y + 14) + "px";
}
const hide = () => (tip.hidden = true);

/* ---- Line charts ---- */

/* series: {name, x, y, token (a colour), dash, faint, dots}; a faint one does not stretch the axis. */
function chart(parent, title, series, options = {}) {
  series = series.filter(s => s.y.some(known));
  if (!series.length) return;
  const card = element(parent, "figure", { class: "card" });
  element(card, "h3", {}, title);
  if (options.note) element(card, "figcaption", {}, options.note);
  if (series.length > 1 && !options.bare) {
    const legend = element(card, "div", { class: "legend" });
    for (const s of series) {
      const item = element(legend, "span");
      element(item, "i", { class: "key" + (s.dash ? " dash" : ""), style: `border-color:${s.token};opacity:${s.faint ? 0.4 : 1}` });
      item.append(s.name);
    }
  }
  const svg = element(card, "svg", { tabindex: 0, role: "img", "aria-label": `${title}: ${series.filter(s => !s.faint)
    .map(s => `${s.name} from ${figure(s.y.find(known))} to ${figure(last(s.y))}`).slice(0, 8).join(", ")}` });
  const format = options.format || figure;
  const leading = series.filter(s => !s.faint).length ? series.filter(s => !s.faint) : series;
  const values = leading.flatMap(s => s.y.filter(known)), xs = series.flatMap(s => s.x);
  let low = options.low ?? Math.min(...values), high = options.high ?? Math.max(...values);
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  if (options.low === undefined) low = low >= 0 && low - margin < 0 ? 0 : low - margin;
  if (options.high === undefined) high += margin;
  const first = Math.min(...xs), end = Math.max(...xs), stops = [...new Set(xs)].sort((a, b) => a - b);

  let at = -1, place;
  function draw() {
    const width = Math.max(160, svg.clientWidth), height = options.height || 170, left = 46, bottom = 22, top = 6;
    const X = v => left + ((v - first) / (end - first || 1)) * (width - left - 8);
    const Y = v => top + (1 - (v - low) / (high - low)) * (height - top - bottom);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.style.height = height + "px";
    svg.replaceChildren();
    const id = "clip" + Math.random().toString(36).slice(2);
    element(element(svg, "clipPath", { id }), "rect", { x: left - 2, y: top - 2, width: width - left - 2, height: height - top - bottom + 4 });
    for (const v of ticks(low, high, height / 45)) {
      element(svg, "line", { class: "gridline", x1: left, x2: width - 8, y1: Y(v), y2: Y(v) });
      element(svg, "text", { x: left - 7, y: Y(v) + 4, "text-anchor": "end" }, format(v));
    }
    element(svg, "line", { class: "axis", x1: left, x2: width - 8, y1: height - bottom, y2: height - bottom });
    for (const v of first === end ? [first] : ticks(first, end, Math.max(2, width / 65)))
      element(svg, "text", { x: X(v), y: height - 6, "text-anchor": "middle" }, figure(v));
    element(svg, "text", { x: left - 7, y: height - 6, "text-anchor": "end" }, options.x || "step");
    const plot = element(svg, "g", { "clip-path": `url(#${id})` });
    for (const s of series) {
      let path = "", pen = "M";
      s.y.forEach((v, i) => {
        if (!known(v)) return (pen = "M");
        path += `${pen}${X(s.x[i]).toFixed(1)} ${Y(v).toFixed(1)}`;
        pen = "L";
      });
      element(plot, "path", { class: "curve", d: path, style: `stroke:${s.token}`, "stroke-width": s.faint ? 1 : s.thin ? 1.2 : 2,
        "stroke-dasharray": s.dash ? "5 4" : undefined, opacity: s.faint ? 0.3 : 1, "data-series": s.name });
      if (s.dots || s.y.filter(known).length === 1)
        s.y.forEach((v, i) => known(v) && element(plot, "circle", { cx: X(s.x[i]), cy: Y(v), r: 2.6, style: `fill:${s.token}` }));
    }
    const rule = element(svg, "line", { class: "rule", y1: top, y2: height - bottom, visibility: "hidden" });
    place = (i, clientX, clientY) => {
      at = i;
      const x = stops[i];
      rule.setAttribute("x1", X(x));
      rule.setAttribute("x2", X(x));
      rule.setAttribute("visibility", "visible");
      const rows = [];
      for (const s of series) {
        let near = -1;
        s.x.forEach((v, k) => { if (known(s.y[k]) && (near < 0 || Math.abs(v - x) < Math.abs(s.x[near] - x))) near = k; });
        const gap = s.dots ? (end - first) / 2 : (end - first) / 50;
        if (near >= 0 && Math.abs(s.x[near] - x) <= gap) rows.push([s.token, s.name, format(s.y[near])]);
      }
      const box = svg.getBoundingClientRect(), scale = box.width / width;
      show(clientX ?? box.left + X(x) * scale, clientY ?? box.top + 20, `${options.x || "step"} ${figure(x, 6)}`, rows.slice(0, 12));
    };
    svg.onpointermove = e => {
      const box = svg.getBoundingClientRect();
      const wanted = first + (((e.clientX - box.left) / box.width) * width - left) / (width - left - 8) * (end - first);
      let i = 0;
      stops.forEach((v, k) => { if (Math.abs(v - wanted) < Math.abs(stops[i] - wanted)) i = k; });
      place(i, e.clientX, e.clientY);
    };
    svg.onpointerleave = svg.onblur = () => { rule.setAttribute("visibility", "hidden"); hide(); };
  }
  svg.onkeydown = e => {
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[e.key];
    if (!step) return;
    e.preventDefault();
    place(Math.max(0, Math.min(stops.length - 1, at + step)));
  };
  drawn.set(svg, draw);
  draw();
  widths.observe(svg);
}

/* ---- Heat maps of expert load: a row for each routed expert, a column for each record ---- */

function parse(hex) {
  return [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
}
/* From the deviation from an even share, as a part of the greatest that is told apart: -1 to 1. */
function shade(deviation, less, even, more) {
  const to = deviation < 0 ? less : more, t = Math.min(1, Math.abs(deviation));
  return even.map((c, i) => Math.round(c + (to[i] - c) * t));
}
function heat(parent, router) {
  const card = element(parent, "figure", { class: "card", style: "margin-top:.9rem" });
  const layers = router.load[0].length, experts = router.load[0][0].length;
  const span = Math.min(1, Math.max(0.25, ...router.load.flat(2).map(v => Math.abs(v * experts - 1))));
  const deviation = v => (v * experts - 1) / span;
  element(card, "h3", {}, "Expert load by layer");
  element(card, "figcaption", {}, `Share of the routed picks that each of the ${experts} routed experts got, from the first step (left) to the last; top row: expert 1.`);
  const ramp = element(card, "div", { class: "ramp" }, share((1 - span) / experts));
  element(ramp, "i");
  ramp.append(`${share((1 + span) / experts)} or more; even: ${share(1 / experts)}`);
  const box = element(card, "div", { class: "layers" });
  for (let l = 0; l < layers; l++) {
    const cell = element(box, "div");
    element(cell, "h3", {}, `layer ${l}`);
    const final = router.load.at(-1)[l];
    const canvas = element(cell, "canvas", { width: router.load.length, height: experts, role: "img",
      "aria-label": `layer ${l}: at the end ${final.map((v, e) => `expert ${e + 1} ${share(v)}`).join(", ")}` });
    canvas.style.height = Math.max(34, experts * 8) + "px";
    const draw = () => {
      const tokens = ["--less", "--even", "--more"].map(t => parse(colour(t)));
      const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, experts);
      router.load.forEach((record, t) => record[l].forEach((v, e) =>
        image.data.set([...shade(deviation(v), ...tokens), 255], 4 * (e * canvas.width + t))));
      context.putImageData(image, 0, 0);
    };
    canvas.onpointermove = e => {
      const b = canvas.getBoundingClientRect();
      const t = Math.min(canvas.width - 1, Math.max(0, Math.floor(((e.clientX - b.left) / b.width) * canvas.width)));
      show(e.clientX, e.clientY, `layer ${l}, step ${figure(router.step[t], 6)}`,
        router.load[t][l].map((v, k) => [`rgb(${shade(deviation(v), ...["--less", "--even", "--more"].map(c => parse(colour(c))))})`, `expert ${k + 1}`, share(v)]));
    };
    canvas.onpointerleave = hide;
    draw();
    heats.push(draw);
  }
}

/* ---- Mixing coefficients: bars for each layer, a line where all would be equal ---- */

function bars(parent, mixing, lambda) {
  const alpha = mixing.alpha.at(-1), experts = alpha[0].length, top = Math.max(2 / experts, ...alpha.flat()) * 1.05;
  const card = element(parent, "figure", { class: "card", style: "margin-top:.9rem" });
  element(card, "h3", {}, "Mixing coefficients by layer");
  element(card, "figcaption", {}, `α of the ${experts} routed experts after step ${figure(mixing.step.at(-1), 6)}` +
    (known(lambda) ? `; the shared expert has the weight λ = ${figure(lambda)}` : "") + `. Dashed: all equal (${figure(1 / experts, 3)}).`);
  const box = element(card, "div", { class: "layers" });
  alpha.forEach((row, l) => {
    const cell = element(box, "div"), width = 180, height = 64;
    element(cell, "h3", {}, `layer ${l}`);
    const svg = element(cell, "svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", style: "height:64px",
      "aria-label": `layer ${l}: ${row.map((v, e) => `expert ${e + 1} ${figure(v, 3)}`).join(", ")}` });
    row.forEach((v, e) => {
      const w = width / experts, h = (v / top) * height;
      element(svg, "rect", { x: e * w + w * 0.12, y: height - h, width: w * 0.76, height: h, style: "fill:var(--merge)", "data-alpha": v });
    });
    element(svg, "line", { class: "rule", x1: 0, x2: width, y1: height - height / experts / top, y2: height - height / experts / top, "vector-effect": "non-scaling-stroke" });
    element(svg, "line", { class: "axis", x1: 0, x2: width, y1: height, y2: height });
    svg.onpointermove = e => show(e.clientX, e.clientY, `layer ${l}`, row.map((v, k) => [null, `expert ${k + 1}`, figure(v, 4)]));
    svg.onpointerleave = hide;
  });
}

/* ---- Scores ---- */

function scores(list) {
  const keys = [...new Set(list.flatMap(s => Object.keys(s)))];
  const passes = keys.filter(k => /^pass@\d+$/.test(k) && list.some(s => known(s[k]))).sort((a, b) => a.slice(5) - b.slice(5));
  const numbers = ["loss", "perplexity", "problems", "samples"].filter(k => list.some(s => known(s[k])));
  element(main, "h2", {}, "Before and after");
  const table = element(element(main, "div", { class: "card scroll" }), "table", { id: "scores" });
  const head = element(element(table, "thead"), "tr");
  for (const k of ["model", ...passes, ...numbers]) element(head, "th", { scope: "col", style: k === passes[0] ? "text-align:left" : undefined }, k);
  const body = element(table, "tbody");
  const best = passes.length ? most(list.map(s => s[passes[0]])) : NaN, scale = Math.max(best, 0.01);
  for (const s of list) {
    const row = element(body, "tr", { class: known(s[passes[0]]) && s[passes[0]] === best ? "best" : "" });
    element(row, "td", {}, s.model);
    passes.forEach((k, i) => {
      if (i) return element(row, "td", { "data-key": k, "data-value": s[k] }, share(s[k]));
      const cell = element(row, "td", { class: "bar", "data-key": k, "data-value": s[k] });
      const meter = element(cell, "div", { class: "meter" });
      element(meter, "i", { style: `--w:${known(s[k]) ? (100 * s[k]) / Math.max(scale, 0.01) : 0}%;--c:${tokenOf(s.model)}` });
      element(meter, "b", {}, share(s[k]));
    });
    for (const k of numbers) element(row, "td", { "data-key": k, "data-value": s[k] }, figure(s[k]));
  }
}

/* ---- Stages ---- */

const kinds = { sft: "--sft", tune: "--tune", merge: "--merge" };
const titles = { sft: "SFT, the dense baseline", tune: "Tuning the MoE", merge: "Learning to merge" };
function tokenOf(name) {
  const n = String(name).toLowerCase();
  if (/^base|upcycled/.test(n)) return "var(--soft)";
  if (/sft|dense/.test(n)) return "var(--sft)";
  if (/merge|uniform|learned/.test(n)) return "var(--merge)";
  return /moe|tune/.test(n) ? "var(--tune)" : "var(--other)";
}
const tokenFor = stage => (kinds[stage.kind] ? `var(${kinds[stage.kind]})` : "var(--other)");

function lossSeries(stage, offset, prefix) {
  const token = tokenFor(stage), x = stage.step.step.map(v => v + offset), list = [];
  const window = Math.max(1, Math.round(stage.step.loss.length / 40));
  if (window > 1) list.push({ name: `${prefix}each step`, x, y: stage.step.loss, token, faint: true });
  list.push({ name: `${prefix}training`, x, y: smooth(stage.step.loss, window), token });
  if (stage.eval) list.push({ name: `${prefix}evaluation`, x: stage.eval.step.map(v => v + offset), y: stage.eval.loss, token, dash: true, dots: stage.eval.step.length < 40 });
  return list;
}

function overview(stages) {
  const tune = stages.find(s => s.kind === "tune"), list = [];
  for (const s of stages)
    list.push(...lossSeries(s, s.kind === "merge" && tune ? last(tune.step.step) || 0 : 0, s.name + ", ").filter(l => !l.faint));
  element(main, "h2", {}, "Loss of all stages");
  chart(main, "Cross-entropy", list, { height: 300, note: tune && stages.some(s => s.kind === "merge") ?
    "Merging is drawn behind the tuning it follows. Training is smoothed; dashed: evaluation." : "Training is smoothed; dashed: evaluation." });
}

function describe(parent, stage) {
  const run = stage.run || {}, start = stage.start || {}, device = run.device || {};
  const card = element(element(parent, "details", {}, element(null, "summary", {}, "Settings, device, inputs")), "div", { class: "card" });
  const rows = { device: device.name || start.device, "device id": device.id, driver: device.driver || start.driver, platform: device.platform,
    started: date(start.time), ended: date((stage.end || {}).time), status: run.status, version: run.version,
    ...Object.fromEntries(Object.entries(run.inputs || {}).map(([k, v]) => ["fingerprint of " + k, v])), ...(run.settings || start.settings) };
  const list = element(card, "dl");
  for (const [key, value] of Object.entries(rows)) {
    if (value === undefined || value === null || value === "") continue;
    const row = element(list, "div");
    element(row, "dt", {}, key);
    element(row, "dd", {}, typeof value === "object" ? [value].flat().map(v => (typeof v === "object" ? JSON.stringify(v) : v)).join(", ")
      : typeof value === "boolean" ? (value ? "yes" : "no") : String(value));
  }
}

function section(stage) {
  const token = tokenFor(stage), steps = stage.step.step, end = stage.end || {}, run = stage.run || {};
  const part = element(main, "section", { id: "stage-" + stage.name });
  const resumes = stage.events.filter(e => e.event === "resume").length, total = (stage.start || {}).steps;
  const state = stage.end ? `${figure(end.step ?? last(steps), 7)} steps` : `${figure(last(steps) || 0, 7)}${total ? " of " + figure(total, 7) : ""} steps, not finished`;
  const heading = element(part, "h2", {});
  element(heading, "span", { class: "swatch", style: `background:${token}` });
  heading.append(titles[stage.kind] || stage.name);
  element(heading, "small", {}, `${stage.name} · ${state}${resumes ? ` · resumed ${resumes === 1 ? "once" : resumes + " times"}` : ""}`);
  const failed = stage.events.findLast(e => e.event === "failed");
  if (failed) element(part, "p", { class: "alert" }, `Failed at step ${failed.step}: ${failed.message || ""}`);
  const tiles = element(part, "div", { class: "tiles" });
  const tile = (key, name, value) => value !== "–" && element(element(tiles, "div", { class: "card tile", "data-tile": key }, element(null, "b", {}, value)), "span", {}, name);
  const best = stage.eval ? Math.min(...stage.eval.loss.filter(known)) : NaN;
  tile("loss", "training loss, last step", figure(last(stage.step.loss)));
  if (stage.eval) tile("eval", "evaluation loss, last", figure(last(stage.eval.loss)));
  if (stage.eval && stage.eval.step.length > 1) tile("best", "evaluation loss, lowest", figure(best));
  if (stage.eval) tile("perplexity", "perplexity, last", figure(last(stage.eval.perplexity)));
  tile("speed", "tokens/s, median", figure(median(stage.step.tokens_per_s)));
  tile("memory", "memory on the device", bytes(most(stage.step.memory)));
  tile("time", "time", duration(end.seconds ?? last(stage.step.seconds)));
  if (last(stage.step.skipped)) tile("skipped", "steps skipped", figure(last(stage.step.skipped)));
  chart(part, "Loss", lossSeries(stage, 0, ""), { height: 220 });
  const grid = element(part, "div", { class: "grid" });
  const one = (title, key, options) => chart(grid, title, [{ name: title.toLowerCase(), x: steps, y: stage.step[key], token, thin: true }], options);
  one("Learning rate", "lr", { low: 0 });
  const norms = stage.step.grad_norm.filter(known).sort((a, b) => a - b), usual = 2 * norms[Math.floor(0.98 * norms.length)];
  one("Gradient norm", "grad_norm", { low: 0, high: most(norms) > usual ? usual : undefined,
    note: most(norms) > usual ? `Up to ${figure(most(norms))}, beyond the frame.` : undefined });
  one("Tokens per second", "tokens_per_s", { low: 0 });
  if (stage.kind === "tune") one("Balance loss", "balance", { low: 0 });
  if (stage.router && stage.router.load.length) {
    const layers = stage.router.entropy[0].length;
    heat(part, stage.router);
    const lines = element(part, "div", { class: "grid" });
    chart(lines, "Router entropy", Array.from({ length: layers }, (_, l) => ({ name: `layer ${l}`, x: stage.router.step, y: stage.router.entropy.map(r => r[l]),
      token: `color-mix(in oklab, var(--less), var(--more) ${Math.round((100 * l) / Math.max(1, layers - 1))}%)`, thin: true })),
      { bare: layers > 8, height: 220, note: "Of the shares of picks, 1: all experts alike." + (layers > 8 ? " One line for each layer, from the first (blue) to the last (orange)." : "") });
  }
  if (stage.mixing && stage.mixing.alpha.length) bars(part, stage.mixing, ((stage.run || {}).settings || {}).lambda);
  describe(part, stage);
}

/* ---- The page ---- */

function build() {
  const devices = [...new Set(data.stages.map(s => s.run && s.run.device && `${s.run.device.name} (${s.run.device.driver})`).filter(Boolean))];
  document.title = data.title + " · XFT report";
  document.getElementById("title").textContent = data.title;
  document.getElementById("about").textContent = [...devices, `report of ${date(data.made)}`, `libxftgpu ${data.version}`].join(" · ");
  if (data.scores.length) scores(data.scores);
  const trained = data.stages.filter(s => s.step.step.length);
  if (trained.length > 1) overview(trained);
  for (const stage of data.stages) section(stage);
}

/* The theme: #light or #dark in the address, the button, else what the system prefers. */
const system = matchMedia("(prefers-color-scheme: dark)");
let chosen = { "#light": "light", "#dark": "dark" }[location.hash];
function paint() {
  root.dataset.theme = chosen || (system.matches ? "dark" : "light");
  heats.forEach(draw => draw());
}
system.onchange = paint;
document.getElementById("theme").onclick = () => {
  chosen = root.dataset.theme === "dark" ? "light" : "dark";
  paint();
};
paint();
build();
root.dataset.ready = "yes";
