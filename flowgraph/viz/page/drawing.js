// The drawing: SVG as text, made anew when a scope opens or closes, or when another pass is shown.

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
  const fill = group !== undefined ? groupColor(group) : item.fill || "";
  const style = fill ? ` style="fill:${fill}"` : "";
  const ink = item.ink && group === undefined ? ` style="fill:${item.ink}"` : "";
  let shape;
  if (item.kind === "placeholder") shape = `<ellipse class="${kind}"${style} cx="${middle}" cy="${round(y + h / 2)}" rx="${round(w / 2)}" ry="${round(h / 2)}"/>`;
  else shape = `<rect class="${kind}"${style} x="${round(x)}" y="${round(y)}" width="${round(w)}" height="${round(h)}" rx="${item.kind === "variable" ? 11 : 5}"/>`;
  if (item.children) shape = `<rect class="${kind}" x="${round(x + 3)}" y="${round(y - 3)}" width="${round(w)}" height="${round(h)}" rx="5"/>` + shape;
  const count = left === undefined || left === item.count ? `${item.count}` : `${left} of ${item.count}`;
  const detail = item.children ? `${count} node${item.count > 1 ? "s" : ""}${amount(item)}` : item.detail;
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
const PORTS = { data: 0, gradient: 0.22, reads: 0.36, update: -0.22, control: -0.36, added: 0.08, removed: -0.08 };

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

at("arrows").innerHTML = Object.entries({ data: "#5f6b7a", gradient: "#d55e00", reads: "#b9c0ca", update: "#009e73", control: "#5f6b7a", added: "#1a7f37", removed: "#cf222e" })
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
  if (data.heat) colorByHeat(drawn);
  for (const edge of state.edges) {
    const busy = Math.max(degree.get(edge.a), degree.get(edge.b)) > FAR && !["data", "gradient"].includes(edge.kind);
    parts.push(drawEdge(edge, busy));
  }
  for (const item of drawn) parts.push(drawBox(item));
  view.innerHTML = parts.join("");
  move();
  mark();
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
