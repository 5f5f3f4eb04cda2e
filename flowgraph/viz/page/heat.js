// Heat: the number of each item that is shown, and its colour between the least and the most of them.

const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "u"], [1e-9, "n"]];

/** A number with a prefix for its size, as heat.py writes it. */
function quantity(value, unit) {
  const digits = (number) => String(Number(number.toPrecision(3)));
  const sign = data.heat.even !== null && value > data.heat.even ? "+" : "";
  if (unit === "%") return `${sign}${digits(value * 100)} %`;
  if (!unit || !value || !isFinite(value)) return `${sign}${Number(value.toPrecision(4))} ${unit}`.trim();
  let [size, prefix] = PREFIXES.find(([least]) => Math.abs(value) >= least * 0.9995) || PREFIXES.at(-1);
  if (size < 1 && ["B", "flop"].includes(unit)) [size, prefix] = [1, ""];
  return `${sign}${digits(value / size)} ${prefix}${unit}`;
}

/** The number of a box, or of a closed scope the sum, the largest or the mean of those within; null where there is none. */
function heatOf(item) {
  if (!data.heat || !item.children) return data.heat ? item.heat : null;
  if (item.heated !== undefined) return item.heated;
  const inside = members(item).filter((box) => box.heat !== null);
  const sum = (number) => inside.reduce((total, box) => total + number(box), 0);
  const even = data.heat.even || 0;
  const folded = {
    sum: () => sum((box) => box.heat),
    max: () => inside.reduce((most, box) => (Math.abs(box.heat - even) > Math.abs(most - even) ? box.heat : most), even),
    mean: () => sum((box) => box.heat * box.weight) / (sum((box) => box.weight) || 1),
  };
  return (item.heated = inside.length ? folded[data.heat.fold]() : null);
}

/** Colours what is drawn. Where closed scopes show sums, these may be more than any box has: the scale reaches as far as they do. */
function colorByHeat(drawn) {
  const { even, log, colors } = data.heat;
  let { low, high } = data.heat;
  for (const item of drawn) {
    const value = heatOf(item);
    if (value === null || !isFinite(value)) continue;
    high = Math.max(high, even === null ? value : even + Math.abs(value - even));
  }
  if (even !== null) low = 2 * even - high;
  const place = (number) => (log ? Math.log(Math.max(number, low)) : number);
  for (const item of drawn) {
    const value = heatOf(item);
    if (value === null) continue;
    const part = high > low ? Math.min(1, Math.max(0, (place(value) - place(low)) / (place(high) - place(low)))) : high ? 1 : 0;
    item.fill = colors[Math.round((isNaN(part) ? 1 : part) * (colors.length - 1))];
    const [r, g, b] = [1, 3, 5].map((from) => parseInt(item.fill.slice(from, from + 2), 16));
    item.ink = 0.299 * r + 0.587 * g + 0.114 * b < 130 ? "#ffffff" : "#1b1f24";
  }
  at("low").textContent = quantity(low, data.heat.unit);
  at("high").textContent = quantity(high, data.heat.unit);
}

/** What is written behind the number of nodes of a closed scope. */
function amount(item) { return heatOf(item) === null ? "" : `, ${quantity(heatOf(item), data.heat.unit)}`; }
