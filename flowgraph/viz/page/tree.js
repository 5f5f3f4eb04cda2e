// The tree: items, which are boxes or scopes that hold items. A closed scope is shown as one box; edges lead between what is shown.
//
// The five scripts of the page are one program, in this order: tree.js, heat.js, layout.js, drawing.js, hand.js. What they show stands in the page
// as JSON, which Python has written; nothing is loaded from elsewhere.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const canvas = at("canvas"), view = at("view"), panel = at("panel"), tip = at("tip");
const ROW = 13, GAP = 14, ROW_GAP = 30, COLUMN_GAP = 60, PAD = 12, TITLE = 18, PAGE = 1300, FAR = 8, READABLE = 0.55;

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
  const [title, detail, kind, scope, text, line, heat, weight, fill, ink, note, marked] = row;
  return { id: `b${i}`, title, detail, kind, parent: scopes[scope], text, line, heat, weight, fill, ink, note, marked, number: i };
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
