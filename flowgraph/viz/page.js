// The page of a graph: a tree of scopes with boxes in them, laid out anew for whatever is open, and edges between what is shown.
//
// The tree and the edges come from the page's own data, which Python has written; nothing is loaded from elsewhere.
//   1. the tree      items: boxes, and scopes that hold items; a closed scope is shown as one box
//   2. the layout    in each scope rows of items, what is read below what reads it; scopes from the innermost out
//   3. the drawing   SVG as text, drawn anew when a scope opens or closes or another pass is shown
//   4. the hand      pointer, wheel, keys, search, slider
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const canvas = at("canvas"), view = at("view"), panel = at("panel"), tip = at("tip");
const ROW = 13, GAP = 14, ROW_GAP = 30, COLUMN_GAP = 60, PAD = 12, TITLE = 18, PAGE = 1300, FAR = 8, READABLE = 0.55;

// --- 1. the tree

const pen = document.createElement("canvas").getContext("2d");
const widths = new Map();
function wide(text, size) {
  const key = size + text;
  if (!widths.has(key)) {
    pen.font = `${size}px Arial, Helvetica, sans-serif`;
    widths.set(key, pen.measureText(text).width);
  }
  return widths.get(key);
}

const scopes = data.scopes.map(([name, parent, kind], i) => ({ id: `s${i}`, title: name, kind, parent, children: [], open: false, count: 0 }));
const root = scopes[0];
const boxes = data.boxes.map((row, i) => {
  const [title, detail, kind, scope, text, line, heat, fill, ink, note, marked] = row;
  return { id: `b${i}`, title, detail, kind, parent: scopes[scope], text, line, heat, fill, ink, note, marked, number: i };
});
const items = new Map([...scopes, ...boxes].map((item) => [item.id, item]));
for (const scope of scopes) scope.parent = scope === root ? null : scopes[scope.parent];
// Children in the order of their first box, as the program made them.
for (const box of boxes) {
  let item = box;
  for (let scope = box.parent; scope; scope = scope.parent) {
    if (!item.placed) { item.placed = true; scope.children.push(item); }
    scope.count++;
    item = scope;
  }
}
for (const scope of scopes) {
  const kinds = new Set();
  const gather = (item) => (item.children ? item.children.forEach(gather) : kinds.add(item.kind));
  if (scope.parent === root || scope.count <= 200) gather(scope);
  scope.look = scope.kind || ["forward", "gradient", "update"].find((kind) => kinds.has(kind)) || [...kinds][0] || "forward";
}
root.open = true;

/** Opens scopes level by level as long as a page can hold what is shown, and it can be read. */
function openToBudget() {
  let shown = root.children.length;
  draw();
  for (let level = [root]; ;) {
    level = level.flatMap((scope) => scope.children).filter((item) => item.children);
    shown += level.reduce((sum, scope) => sum + scope.children.length - 1, 0);
    if (!level.length || shown > data.budget) break;
    for (const scope of level) scope.open = true;
    draw();
    fit();
    if (state.zoom >= READABLE) continue;
    for (const scope of level) scope.open = false;
    draw();
    break;
  }
  fit();
}

/** For each item, what stands for it: itself, or the outermost closed scope around it. */
function settle() {
  const walk = (scope, stand) => {
    for (const item of scope.children) {
      item.shown = stand || item;
      if (item.children) walk(item, stand || (item.open ? null : item));
    }
  };
  walk(root, null);
}

/** Edges between what is shown: those of the graph, or what a pass has made of them. */
function shownEdges(stage) {
  const found = new Map();
  for (let i = 0; i < data.edges.length; i++) {
    const [from, to, kind, text] = data.edges[i];
    if (stage && (stage.gone.has(to) || stage.constants.has(from))) continue;
    const source = stage && stage.moved.has(from) ? stage.moved.get(from) : from;
    if (stage && stage.gone.has(source)) continue;
    const a = boxes[source].shown, b = boxes[to].shown;
    if (a === b) continue;
    const key = `${a.id} ${b.id} ${kind}`;
    const edge = found.get(key);
    if (edge) edge.count++;
    else found.set(key, { key, a, b, kind, text, count: 1 });
  }
  return [...found.values()];
}

// --- 2. the layout

function isGradient(item) { return item.kind === "gradient"; }

function size(item) {
  const title = item.children ? `+ ${item.title}` : item.title;
  const rows = [item.detail || (item.children ? "0" : ""), item.note].filter(Boolean).length;
  item.w = Math.max(wide(title, 11), wide(item.children ? `${item.count} of ${item.count} nodes` : item.detail || "", 9), wide(item.note || "", 9)) + 16;
  if (item.kind === "placeholder") item.w += 14;
  item.h = 22 + ROW * rows + (item.kind === "placeholder" ? 6 : 0);
}

function layOut(edges) {
  const open = [];
  const collect = (scope) => {
    for (const item of scope.children) {
      item.above = []; item.below = []; item.column = false;
      if (item.children && item.open) collect(item); else size(item);
    }
    open.push(scope); // the innermost first
  };
  collect(root);
  for (const { a, b, kind } of edges) {
    if (kind === "reads") continue;
    const [low, high] = kind === "gradient" ? [b, a] : [a, b];
    let x = low, y = high; // climb to the two items of one scope that hold them
    const depth = (item) => { let count = 0; for (let up = item.parent; up; up = up.parent) count++; return count; };
    let dx = depth(x), dy = depth(y);
    while (dx > dy) { x = x.parent; dx--; }
    while (dy > dx) { y = y.parent; dy--; }
    while (x.parent !== y.parent) { x = x.parent; y = y.parent; }
    if (x !== y) { x.above.push(y); y.below.push(x); }
  }
  for (const scope of open) arrange(scope);
  const place = (scope) => {
    for (const item of scope.children) {
      item.x += scope.x; item.y += scope.y;
      if (item.children && item.open) place(item);
    }
  };
  root.x = root.y = 0;
  place(root);
}

/** Places the items of a scope within it, and gives the scope its size. */
function arrange(scope) {
  const parts = scope.children;
  const area = parts.reduce((sum, part) => sum + (part.w + GAP) * (part.h + ROW_GAP), 0);
  const widest = Math.max(Math.sqrt(area) * 1.5, ...parts.slice(0, 10000).map((part) => part.w));
  const rows = breakRows(orderRows(layersOf(parts)), widest);
  for (const row of rows) placeRow(row);
  const heights = rows.map((row) => Math.max(...row.map((part) => part.h)));
  const total = heights.reduce((sum, height) => sum + height + ROW_GAP, 0);
  let tallest = Math.max(Math.sqrt(area) * 1.3, PAGE, ...heights);
  tallest = Math.max((total / Math.ceil(total / tallest)) * 1.02, ...heights);
  let left = 0, column = [], used = 0;
  const flush = () => { if (column.length) left = placeColumn(column, left); column = []; used = 0; };
  rows.forEach((row, i) => {
    if (used + heights[i] > tallest) flush();
    column.push([row, heights[i]]);
    used += heights[i] + ROW_GAP;
  });
  flush();
  const top = Math.min(...parts.map((part) => part.y));
  const pad = scope === root ? 0 : PAD, title = scope === root ? 0 : TITLE;
  let bottom = 0;
  for (const part of parts) {
    part.x += pad; part.y += pad + title - top;
    bottom = Math.max(bottom, part.y + part.h);
  }
  scope.w = Math.max(left - COLUMN_GAP, scope === root ? 0 : wide(`− ${scope.title}`, 10)) + 2 * pad;
  scope.h = bottom + pad;
}

/** Rows of items by the longest way to each; where they read each other in a circle, the one made first comes first. */
function layersOf(parts) {
  for (const part of parts) { part.layer = 0; part.waits = part.below.length; part.done = false; }
  const ready = parts.filter((part) => !part.waits);
  let first = 0;
  for (let i = 0; ; ) {
    for (; i < ready.length; i++) {
      const part = ready[i];
      if (part.done) continue;
      part.done = true;
      for (const other of part.above) {
        if (other.done) continue;
        other.layer = Math.max(other.layer, part.layer + 1);
        if (!--other.waits) ready.push(other);
      }
    }
    while (first < parts.length && parts[first].done) first++;
    if (first === parts.length) break;
    ready.push(parts[first]);
  }
  const layers = [];
  for (const part of parts) { // what reads nothing stands right below its first reader
    if (!part.below.length && part.above.length) part.layer = Math.max(0, Math.min(...part.above.map((other) => other.layer)) - 1);
    (layers[part.layer] ||= []).push(part);
  }
  return layers.filter(Boolean);
}

/** Each row in an order with few crossings: forward nodes to the left of gradients, and each near what it is joined to. */
function orderRows(layers) {
  for (const row of layers) row.forEach((part, i) => { part.rank = i / row.length; });
  for (const [sweep, side] of [[layers, "below"], [[...layers].reverse(), "above"], [layers, "below"]]) {
    for (const row of sweep) {
      for (const part of row) {
        const near = part[side].filter((other) => other.layer !== part.layer);
        if (near.length) part.rank = near.reduce((sum, other) => sum + other.rank, 0) / near.length;
      }
      row.sort((a, b) => isGradient(a) - isGradient(b) || a.rank - b.rank);
      row.forEach((part, i) => { part.rank = (i + 0.5) / row.length; });
    }
  }
  return layers;
}

function breakRows(layers, widest) {
  const rows = [];
  for (const layer of layers) {
    let width = Infinity;
    for (const part of layer) {
      if (width + part.w > widest) { rows.push([]); width = 0; }
      rows[rows.length - 1].push(part);
      width += part.w + GAP;
    }
  }
  return rows;
}

/** Each item above the middle of what it reads, as far as its neighbours let it. */
function placeRow(row) {
  let edge = -Infinity, shift = 0;
  for (const part of row) {
    const near = part.below.filter((other) => other.layer < part.layer);
    const wish = (near.length ? near.reduce((sum, other) => sum + other.x + other.w / 2, 0) / near.length : 0) - part.w / 2;
    part.x = Math.max(wish, edge);
    edge = part.x + part.w + GAP;
    shift += wish - part.x;
  }
  for (const part of row) part.x += shift / row.length;
}

/** Stacks rows upwards from `left` on; returns where the next column begins. */
function placeColumn(rows, left) {
  const edge = Math.min(...rows.map(([row]) => Math.min(...row.map((part) => part.x))));
  let bottom = 0, right = left;
  for (const [row, height] of rows) {
    for (const part of row) {
      part.x += left - edge;
      part.y = bottom - (height + part.h) / 2;
      right = Math.max(right, part.x + part.w);
    }
    bottom -= height + ROW_GAP;
  }
  return right + COLUMN_GAP;
}

// --- 3. the drawing

const state = { stage: 0, chosen: null, matches: [], match: -1, edges: [], x: 0, y: 0, zoom: 1 };
const stages = data.stages.map((stage) => ({
  ...stage,
  gone: new Set(stage.gone),
  constants: new Set(stage.constants),
  moved: new Map(stage.moved),
  why: new Map(stage.why),
  groups: new Map(stage.groups),
}));

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const safe = (text) => String(text).replace(/[&<>"]/g, (c) => escapes[c]);
const round = (number) => Math.round(number * 10) / 10;

function nameOf(box) { return box.text.split("\n", 1)[0]; }

function members(item) { return item.children ? item.children.flatMap(members) : [item]; }

/** What a pass has made of a box or a closed scope: how much of it is gone, whether it changed, the colour of its group. */
function fate(item) {
  const stage = stages[state.stage];
  if (!stage) return {};
  const all = members(item);
  const left = all.filter((box) => !stage.gone.has(box.number)).length;
  const group = all.length === 1 ? stage.groups.get(all[0].number) : undefined;
  return { left, gone: !left, changed: !stage.groups.size && all.some((box) => stage.why.has(box.number)), group };
}

/** Colours that tell groups apart: the golden angle around the wheel. */
function groupColor(name) {
  const order = [...new Set(stages[state.stage].groups.values())].indexOf(name);
  return `hsl(${(order * 137.5 + 200) % 360} 65% 82%)`;
}

function drawBox(item) {
  const { left, gone, changed, group } = fate(item);
  const { x, y, w, h } = item, middle = round(x + w / 2);
  const kind = item.children ? item.look : item.kind;
  const fill = group !== undefined ? groupColor(group) : item.fill || (item.children && item.heated ? item.heated.fill : "");
  const style = fill ? ` style="fill:${fill}"` : "";
  const ink = item.ink && group === undefined ? ` style="fill:${item.ink}"` : "";
  let shape;
  if (item.kind === "placeholder") shape = `<ellipse class="${kind}"${style} cx="${middle}" cy="${round(y + h / 2)}" rx="${round(w / 2)}" ry="${round(h / 2)}"/>`;
  else shape = `<rect class="${kind}"${style} x="${round(x)}" y="${round(y)}" width="${round(w)}" height="${round(h)}" rx="${item.kind === "variable" ? 11 : 5}"/>`;
  if (item.children) shape = `<rect class="${kind}" x="${round(x + 3)}" y="${round(y - 3)}" width="${round(w)}" height="${round(h)}" rx="5"/>` + shape;
  const count = left === undefined || left === item.count ? `${item.count}` : `${left} of ${item.count}`;
  const detail = item.children ? `${count} node${item.count > 1 ? "s" : ""}` : item.detail;
  const rows = [[item.title, ""], [detail, "small"], [item.note, "note"]].filter(([text]) => text);
  let line = y + h / 2 + 4 - (ROW / 2) * (rows.length - 1);
  const text = rows.map(([words, css], i) => {
    const sign = item.children && !i ? '<tspan class="sign">+ </tspan>' : "";
    return `<text class="${css}"${css === "note" ? "" : ink} x="${middle}" y="${round(line + ROW * i)}">${sign}${safe(words)}</text>`;
  }).join("");
  const marks = [gone && "gone", changed && "changed", item.marked && "marked"].filter(Boolean).join(" ");
  return `<g class="box ${marks}" data-id="${item.id}">${shape}${text}</g>`;
}

function drawFrame(scope) {
  const kind = scope.kind && `of-${scope.kind}`;
  return (
    `<g class="frame ${kind}" data-id="${scope.id}"><rect x="${round(scope.x)}" y="${round(scope.y)}" width="${round(scope.w)}" height="${round(scope.h)}" rx="8"/>` +
    `<text x="${round(scope.x + 8)}" y="${round(scope.y + 13)}"><tspan class="sign" data-toggle="1">− </tspan>${safe(scope.title)}</text></g>`
  );
}

// Where on a box the edges of a kind begin and end, from its middle, by its width: so that they do not lie upon each other.
const PORTS = { data: 0, gradient: 0.22, reads: 0.36, update: -0.22, control: -0.36 };

function drawEdge(edge, busy) {
  const { a, b } = edge, port = PORTS[edge.kind];
  let x1 = a.x + a.w * (0.5 + port), x2 = b.x + b.w * (0.5 + port), y1, y2, bend;
  if (a.y >= b.y + b.h) { y1 = a.y; y2 = b.y + b.h; bend = -1; }
  else if (b.y >= a.y + a.h) { y1 = a.y + a.h; y2 = b.y; bend = 1; }
  else {
    [x1, x2] = a.x < b.x ? [a.x + a.w, b.x] : [a.x, b.x + b.w];
    y1 = a.y + a.h / 2; y2 = b.y + b.h / 2; bend = 0;
  }
  const rise = Math.abs(y2 - y1), up = edge.kind !== "gradient";
  if (bend && (bend < 0) !== up && (b.x > a.x + a.w || a.x > b.x + b.w)) { // from the top of a column to the foot of the next: between them
    const way = a.x < b.x ? 1 : -1;
    [x1, x2, y1, y2] = [way > 0 ? a.x + a.w : a.x, way > 0 ? b.x : b.x + b.w, a.y + a.h * (0.5 + port), b.y + b.h * (0.5 + port)];
    const out = way * Math.max(30, Math.abs(x2 - x1) * 0.6);
    return edgePath(edge, busy, `M${round(x1)},${round(y1)} C${round(x1 + out)},${round(y1)} ${round(x2 - out)},${round(y2)} ${round(x2)},${round(y2)}`);
  }
  bend *= Math.min(60, rise / 2);
  // What passes rows of its own column goes around them: forward to the left, gradients to the right.
  const side = bend && rise > 2 * ROW_GAP + 20 && Math.abs(x2 - x1) < a.w ? Math.sign(port || -1) * Math.min(160, 0.7 * a.w + rise * 0.12) : 0;
  if (side) bend *= Math.min(2, rise / 120);
  return edgePath(edge, busy, `M${round(x1)},${round(y1)} C${round(x1 + side)},${round(y1 + bend)} ${round(x2 + side)},${round(y2 - bend)} ${round(x2)},${round(y2)}`);
}

function edgePath(edge, busy, path) {
  return `<path class="edge ${edge.kind}${busy ? " busy" : ""}" data-edge="${edge.key}" marker-end="url(#m-${edge.kind})" d="${path}"/>`;
}

at("arrows").innerHTML = Object.entries({ data: "#5f6b7a", gradient: "#d55e00", reads: "#b9c0ca", update: "#009e73", control: "#5f6b7a" })
  .map(([kind, color]) => `<marker id="m-${kind}" viewBox="0 0 8 6" refX="8" refY="3" markerUnits="userSpaceOnUse" markerWidth="8" markerHeight="6" orient="auto"><path d="M0,0 L8,3 L0,6 z" fill="${color}"/></marker>`)
  .join("");

/** Draws all anew. `keep`: an item that stays where it is on the screen. */
function draw(keep) {
  const before = keep && keep.x !== undefined ? [keep.x, keep.y] : null;
  settle();
  layOut(shownEdges(null)); // by the graph as it was written: so nodes keep their place from pass to pass
  if (before) {
    state.x += (before[0] - keep.x) * state.zoom;
    state.y += (before[1] - keep.y) * state.zoom;
  }
  redraw();
}

/** Draws what is laid out. */
function redraw() {
  state.edges = shownEdges(stages[state.stage]);
  const degree = new Map();
  for (const { a, b } of state.edges) for (const item of [a, b]) degree.set(item, (degree.get(item) || 0) + 1);
  const parts = [], drawn = [];
  const walk = (scope) => {
    for (const item of scope.children) {
      if (item.children && item.open) { parts.push(drawFrame(item)); walk(item); } else drawn.push(item);
    }
  };
  walk(root);
  for (const item of drawn) if (item.children && data.heat) heatUp(item);
  for (const edge of state.edges) {
    const busy = Math.max(degree.get(edge.a), degree.get(edge.b)) > FAR && !["data", "gradient"].includes(edge.kind);
    parts.push(drawEdge(edge, busy));
  }
  for (const item of drawn) parts.push(drawBox(item));
  view.innerHTML = parts.join("");
  move();
  mark();
}

/** The number of a closed scope: the sum, or the largest, of those within. */
function heatUp(scope) {
  const values = members(scope).map((box) => box.heat).filter((value) => value !== null);
  if (!values.length) return;
  const value = data.heat.fold === "sum" ? values.reduce((sum, each) => sum + each, 0) : values.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
  const { low, high, log, colors } = data.heat;
  const place = (number) => (log ? Math.log(Math.max(number, low)) : number);
  const part = high > low ? Math.min(1, Math.max(0, (place(value) - place(low)) / (place(high) - place(low)))) : 1;
  scope.heated = { value, fill: colors[Math.round(part * (colors.length - 1))] };
}

function move() { view.setAttribute("transform", `translate(${round(state.x)} ${round(state.y)}) scale(${state.zoom})`); }

function fit() {
  const { width, height } = canvas.getBoundingClientRect();
  state.zoom = Math.min(1.6, (width - 30) / Math.max(root.w, 1), (height - 30) / Math.max(root.h, 1));
  state.x = (width - root.w * state.zoom) / 2;
  state.y = (height - root.h * state.zoom) / 2;
  move();
}

function zoomBy(factor, x, y) {
  const { width, height } = canvas.getBoundingClientRect();
  const [cx, cy] = [x ?? width / 2, y ?? height / 2];
  const zoom = Math.min(8, Math.max(0.01, state.zoom * factor));
  state.x = cx - ((cx - state.x) * zoom) / state.zoom;
  state.y = cy - ((cy - state.y) * zoom) / state.zoom;
  state.zoom = zoom;
  move();
}

/** Brings an item into sight, large enough to be read. */
function reveal(item) {
  const area = canvas.getBoundingClientRect(), height = area.height;
  const width = area.width - (panel.hidden ? 0 : panel.offsetWidth);
  if (state.zoom < 0.7) zoomBy(1 / state.zoom);
  const x = state.x + (item.x + item.w / 2) * state.zoom, y = state.y + (item.y + item.h / 2) * state.zoom;
  if (x < 60 || x > width - 60 || y < 40 || y > height - 40) {
    state.x += width / 2 - x;
    state.y += height / 2 - y;
  }
  move();
}

// --- 4. the hand

function mark() {
  for (const element of view.querySelectorAll(".chosen, .match, .near")) element.classList.remove("chosen", "match", "near");
  const byId = new Map([...view.querySelectorAll("[data-id]")].map((element) => [element.dataset.id, element]));
  const shown = (item) => byId.get(item.shown.id);
  for (const box of state.matches) shown(box)?.classList.add("match");
  const chosen = state.chosen && state.chosen !== root ? state.chosen : null;
  view.classList.toggle("quiet", Boolean(chosen && !chosen.open));
  if (!chosen) return;
  shown(chosen)?.classList.add("chosen");
  const near = new Set(state.edges.filter(({ a, b }) => a === chosen.shown || b === chosen.shown).map((edge) => edge.key));
  for (const path of view.querySelectorAll("[data-edge]")) if (near.has(path.dataset.edge)) path.classList.add("near");
}

function choose(item) {
  state.chosen = item;
  mark();
  showPanel();
}

function toggle(scope, open = !scope.open) {
  if (!scope.children || scope === root) return;
  scope.open = open;
  if (open) while (scope.children.length === 1 && scope.children[0].children) (scope = scope.children[0]).open = true; // no matryoshkas
  draw(scope);
  showPanel();
}

/** Opens the scopes around an item and chooses it. */
function goTo(item) {
  for (let scope = item.parent; scope; scope = scope.parent) scope.open = true;
  draw();
  choose(item);
  reveal(item);
}

/** One level more: all closed scopes that are shown. Or none. */
function openAll(open) {
  if (open) for (const scope of scopes.filter((scope) => !scope.open && (!scope.parent || scope.parent.open))) scope.opening = true;
  for (const scope of scopes) {
    if (scope !== root) scope.open = open ? scope.open || Boolean(scope.opening) : false;
    scope.opening = false;
  }
  draw();
  fit();
}

function path(item) {
  const names = [];
  for (let scope = item; scope && scope !== root; scope = scope.parent) names.unshift(scope.title);
  return names.join("/");
}

function tooltip(item) {
  if (!item.children) return [item.text, ...why(item)].join("\n");
  const kinds = new Map();
  for (const box of members(item)) kinds.set(box.title, (kinds.get(box.title) || 0) + 1);
  const rows = [...kinds].sort((a, b) => b[1] - a[1]).slice(0, 8).map(([name, count]) => `${count} ${name}`);
  const heat = item.heated ? `\n${data.heat.title}: ${data.heat.fold} ${item.heated.value.toPrecision(4)} ${data.heat.unit}` : "";
  return `${path(item)}: ${item.count} node${item.count > 1 ? "s" : ""}\n${rows.join(", ")}${kinds.size > 8 ? ", …" : ""}${heat}`;
}

/** What the passes up to the one that is shown did to a box. */
function why(box) {
  return stages.slice(0, state.stage + 1).filter((stage) => stage.why.has(box.number)).map((stage) => `${stage.name}: ${stage.why.get(box.number)}`);
}

function showPanel() {
  const item = state.chosen;
  panel.hidden = !item || item === root;
  if (!panel.hidden) {
    const links = (title, list) => {
      const unique = [...new Set(list)];
      if (!unique.length) return "";
      const rows = unique.slice(0, 30).map((other) => `<li><button data-go="${other.id}">${safe(other.children ? path(other) : nameOf(other))}</button></li>`);
      return `<h3>${title}</h3><ul>${rows.join("")}</ul>${unique.length > 30 ? `<p>and ${unique.length - 30} more</p>` : ""}`;
    };
    const mine = state.edges.filter(({ a, b }) => a === item.shown || b === item.shown);
    const [name, ...rest] = (item.children ? tooltip(item) : item.text).split("\n");
    const sign = item.children ? `<p><button data-toggle="${item.id}">${item.open ? "close" : "open"} this scope</button></p>` : "";
    panel.innerHTML = [
      `<h2>${safe(name)}</h2>`,
      rest.map((row) => `<p>${safe(row)}</p>`).join(""),
      sign,
      item.line === null || item.children ? "" : source(data.lines[item.line]),
      item.children ? "" : ((rows) => (rows.length ? `<h3>passes</h3>${rows.map((row) => `<p>${safe(row)}</p>`).join("")}` : ""))(why(item)),
      links("reads", mine.filter(({ b }) => b === item.shown).map(({ a }) => a)),
      links("is read by", mine.filter(({ a }) => a === item.shown).map(({ b }) => b)),
    ].join("");
  }
}

/** The lines of the user's program around the one that made a node. */
function source([file, number, first, lines]) {
  if (!lines.length) return "";
  const rows = lines.map((text, i) => {
    const row = `${String(first + i).padStart(5)}  ${safe(text)}`;
    return first + i === number ? `<b>${row}</b>` : row;
  });
  return `<h3>${safe(file)}:${number}</h3><pre>${rows.join("\n")}</pre>`;
}

function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const hay = (box) => (box.hay ||= `${box.text} ${box.detail} ${box.note || ""}`.toLowerCase());
  state.matches = words.length ? boxes.filter((box) => words.every((word) => hay(box).includes(word))) : [];
  const rank = (box) => { const name = nameOf(box).toLowerCase(); return (words.every((word) => name.includes(word)) ? 0 : 1e6) + name.length; };
  if (state.matches.length < 5000) state.matches.sort((a, b) => rank(a) - rank(b)); // in names first, and the shortest of these
  state.match = -1;
  const count = state.matches.length;
  at("found").textContent = words.length ? `${count} match${count === 1 ? "" : "es"}` : "";
  at("results").hidden = !count;
  at("results").innerHTML = state.matches.slice(0, 50).map((box) => `<li><button data-go="${box.id}">${safe(nameOf(box))}</button></li>`).join("");
  mark();
}

function nextMatch() {
  if (!state.matches.length) return;
  state.match = (state.match + 1) % state.matches.length;
  goTo(state.matches[state.match]);
  at("found").textContent = `${state.match + 1} of ${state.matches.length}`;
  [...at("results").children].forEach((row, i) => row.classList.toggle("here", i === state.match));
}

function showStage(number) {
  if (!stages.length) return;
  state.stage = Math.min(stages.length - 1, Math.max(0, number));
  at("slider").value = state.stage;
  const { name, text } = stages[state.stage];
  at("stage").textContent = text ? `${name}: ${text}` : name;
  redraw();
  showPanel();
}

/** From the chosen box along an edge, or to a neighbour. */
function step(key) {
  const here = state.chosen?.shown;
  const visible = [...view.querySelectorAll(".box")].map((element) => items.get(element.dataset.id));
  let next;
  if (!here || here === root) next = visible[0];
  else if (key === "ArrowUp" || key === "ArrowDown") {
    const up = key === "ArrowUp";
    const common = isGradient(here) ? "gradient" : "data";
    const ways = state.edges.filter((edge) => (up ? edge.a : edge.b) === here).map((edge) => [up ? edge.b : edge.a, edge.kind]);
    const far = ([item, kind]) => Math.hypot(item.x - here.x, item.y - here.y) + (kind === common ? 0 : 1e6);
    next = ways.sort((a, b) => far(a) - far(b))[0]?.[0];
  } else {
    const side = key === "ArrowRight" ? 1 : -1;
    const far = (item) => Math.abs(item.x - here.x) + 4 * Math.abs(item.y + item.h / 2 - here.y - here.h / 2);
    next = visible.filter((item) => item !== here && (item.x + item.w / 2 - here.x - here.w / 2) * side > 1).sort((a, b) => far(a) - far(b))[0];
  }
  if (next) { choose(next); reveal(next); }
}

const keys = {
  "/": () => { at("search").focus(); at("search").select(); },
  "?": () => at("help").showModal(),
  "0": fit,
  "+": () => zoomBy(1.25),
  "=": () => zoomBy(1.25),
  "-": () => zoomBy(0.8),
  "[": () => showStage(state.stage - 1),
  "]": () => showStage(state.stage + 1),
  e: () => openAll(true),
  c: () => openAll(false),
  Enter: () => state.chosen && toggle(state.chosen),
  " ": () => state.chosen && toggle(state.chosen),
  Backspace: () => {
    const around = state.chosen?.shown.parent;
    if (around && around !== root) { choose(around); toggle(around, false); }
  },
  Escape: () => { choose(null); search(""); at("search").value = ""; },
};
for (const key of ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"]) keys[key] = () => step(key);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  if (event.target === at("search")) {
    if (event.key === "Enter") nextMatch();
    if (event.key === "Escape") { keys.Escape(); canvas.focus(); }
    return;
  }
  if (event.target === at("slider") && event.key.startsWith("Arrow")) return;
  if (event.target.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) return;
  const action = keys[event.key];
  if (action) { event.preventDefault(); action(); }
});

at("search").addEventListener("input", (event) => search(event.target.value));
at("slider").addEventListener("input", (event) => showStage(Number(event.target.value)));
at("open-all").addEventListener("click", () => openAll(true));
at("close-all").addEventListener("click", () => openAll(false));
at("fit").addEventListener("click", fit);
at("help-button").addEventListener("click", () => at("help").showModal());
for (const list of [panel, at("results")]) {
  list.addEventListener("click", (event) => {
    const { go, toggle: scope } = event.target.dataset;
    if (go) goTo(items.get(go));
    if (scope) toggle(items.get(scope));
    if (go && list !== panel) at("results").hidden = true;
  });
}

const itemOf = (target) => items.get(target.closest?.("[data-id]")?.dataset.id);
let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  drag = { x: event.clientX - state.x, y: event.clientY - state.y, moved: false, from: [event.clientX, event.clientY] };
  at("results").hidden = true;
});
canvas.addEventListener("pointermove", (event) => {
  if (drag) {
    if (Math.hypot(event.clientX - drag.from[0], event.clientY - drag.from[1]) > 4 && !drag.moved) {
      drag.moved = true;
      canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("moving");
    }
    if (drag.moved) { state.x = event.clientX - drag.x; state.y = event.clientY - drag.y; move(); }
  }
  const item = drag?.moved ? null : itemOf(event.target);
  const edge = drag?.moved || item ? null : event.target.dataset?.edge && state.edges.find(({ key }) => key === event.target.dataset.edge);
  tip.hidden = !((item && !item.open) || edge);
  if (!tip.hidden) {
    tip.textContent = item ? tooltip(item) : edge.count > 1 ? `${edge.count} edges\n${edge.text}` : edge.text;
    const area = canvas.parentElement.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX - area.left + 14, area.width - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY - area.top + 16, area.height - tip.offsetHeight - 8))}px`;
  }
});
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
canvas.addEventListener("pointerup", (event) => {
  const moved = drag?.moved;
  drag = null;
  canvas.classList.remove("moving");
  if (moved) return;
  const item = itemOf(event.target) || null;
  if (item?.children && item.open && event.target.tagName !== "rect") return toggle(item);
  choose(item);
});
canvas.addEventListener("dblclick", (event) => {
  const item = itemOf(event.target);
  if (item?.children) toggle(item);
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const area = canvas.getBoundingClientRect();
  zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - area.left, event.clientY - area.top);
}, { passive: false });

// --- the beginning

at("passes").hidden = !stages.length;
at("slider").max = Math.max(0, stages.length - 1);
const colors = { forward: "#0072b2", gradient: "#d55e00", update: "#009e73", variable: "#b58900", copy: "#7b4fa6" };
const kinds = Object.keys(colors).filter((kind) => boxes.some((box) => box.kind === kind));
at("footer").innerHTML = [
  data.heat ? `<span>${safe(data.heat.title)} <span>${safe(data.heat.ends[0])}<span class="ramp" style="background:linear-gradient(90deg,${data.heat.colors.join()})"></span>${safe(data.heat.ends[1])}</span></span>` : "",
  ...kinds.map((kind) => `<span><span style="color:${colors[kind]}">${data.heat ? "□" : "■"}</span> ${kind}</span>`),
  `<span>${boxes.length} nodes, ${data.edges.length} edges</span>`,
  ...data.notes.map((note) => `<span>${safe(note)}</span>`),
].join("");
openToBudget();
if (stages.length) showStage(0);
const wanted = decodeURIComponent(location.hash.slice(1));
const first = boxes.find((box) => (wanted ? nameOf(box) === wanted : box.marked));
if (first) goTo(first);
