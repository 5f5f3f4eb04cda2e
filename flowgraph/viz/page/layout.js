// The layout: in each scope rows of items, what is read below what reads it; scopes from the innermost out.
//
// It is the layout of layers.py, in about linear time: rows that are too wide are broken, and rows that are too many go on in a new
// column. A gradient is turned upside down, so that it stands beside its forward nodes.

function isGradient(item) { return item.kind === "gradient"; }

function size(item) {
  const title = item.children ? `+ ${item.title}` : item.title;
  const rows = [item.detail || (item.children ? "0" : ""), item.note].filter(Boolean).length;
  item.w = Math.max(wide(title, 11), wide(item.children ? `${item.count} of ${item.count} nodes${amount(item)}` : item.detail || "", 9), wide(item.note || "", 9)) + 16;
  if (item.kind === "placeholder") item.w += 14;
  item.h = 22 + ROW * rows + (item.kind === "placeholder" ? 6 : 0);
}

function layOut(edges) {
  const open = [];
  root.depth = 0;
  const collect = (scope) => {
    for (const item of scope.children) {
      item.above = []; item.below = []; item.depth = scope.depth + 1;
      if (item.children && item.open) collect(item); else size(item);
    }
    open.push(scope); // the innermost first
  };
  collect(root);
  for (const { a, b, kind } of edges) {
    if (kind === "reads") continue;
    const [low, high] = kind === "gradient" ? [b, a] : [a, b];
    let x = low, y = high; // climb to the two items of one scope that hold them
    while (x.depth > y.depth) x = x.parent;
    while (y.depth > x.depth) y = y.parent;
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
  const widest = Math.max(Math.sqrt(area) * 1.5, ...parts.map((part) => part.w));
  const rows = breakRows(orderRows(layersOf(parts)), widest);
  for (const row of rows) placeRow(row);
  const heights = rows.map((row) => Math.max(...row.map((part) => part.h)));
  const total = heights.reduce((sum, height) => sum + height + ROW_GAP, 0);
  let tallest = Math.max(Math.sqrt(area) * 1.3, PAGE, ...heights);
  tallest = Math.max(total / Math.ceil(total / tallest) + Math.max(...heights) / 2, ...heights); // columns of about one height
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
