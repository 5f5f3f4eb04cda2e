// The hand: pointer, wheel, keys, search, the slider over the passes, and the panel about what is chosen.

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
  const heat = heatOf(item) !== null ? `\n${data.heat.title}: ${data.heat.fold} ${quantity(heatOf(item), data.heat.unit)}` : "";
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

at("passes").hidden = !stages.length;
at("slider").max = Math.max(0, stages.length - 1);
const colors = { forward: "#0072b2", gradient: "#d55e00", update: "#009e73", variable: "#b58900", copy: "#7b4fa6" };
const kinds = Object.keys(colors).filter((kind) => boxes.some((box) => box.kind === kind));
at("footer").innerHTML = [
  data.heat ? `<span>${safe(data.heat.title)} <span><span id="low"></span><span class="ramp" style="background:linear-gradient(90deg,${data.heat.colors.join()})"></span><span id="high"></span></span></span>` : "",
  ...kinds.map((kind) => `<span><span style="color:${colors[kind]}">${data.heat || data.groups.length ? "□" : "■"}</span> ${kind}</span>`),
  ...data.groups.slice(0, 12).map(([name, color]) => `<span><span style="color:${color}">■</span> ${safe(name)}</span>`),
  `<span>${boxes.length} nodes, ${data.edges.length} edges</span>`,
  ...data.notes.map((note) => `<span>${safe(note)}</span>`),
].join("");
openToBudget();
if (stages.length) showStage(0);
const wanted = decodeURIComponent(location.hash.slice(1));
const first = boxes.find((box) => (wanted ? nameOf(box) === wanted : box.marked));
if (first) goTo(first);
