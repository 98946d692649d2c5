"use strict";
// Tables and charts of a report. The data is JSON inside the page; nothing is ever fetched.

const root = document.documentElement;
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
root.classList.add("js");

/** Returns an HTML element with properties and children; text goes in as text, never as markup. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Returns an SVG element with attributes; `title` becomes its tooltip. */
function shape(name, attributes, title = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (title) made.append(Object.assign(shape("title", {}), { textContent: title }));
  return made;
}

const textAt = (x, y, content, anchor = "middle") =>
  Object.assign(shape("text", { x, y, "text-anchor": anchor }), { textContent: content });
const dotOf = (color) => element("span", { className: `dot c${color}` });

/** Returns a number for reading: true minus, fixed digits, a dash where there is none. */
function figure(value, digits, signed = false) {
  if (value === null || value === undefined) return "\u2013";
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return (value < 0 ? "\u2212" : signed ? "+" : "") + text;
}

/** Returns about `most` round numbers that cover low to high. */
function ticksBetween(low, high, most) {
  const rough = (high - low) / most || 1;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * decade).find((one) => one >= rough * 0.999);
  const marks = [];
  for (let n = Math.floor(low / step); n <= Math.ceil(high / step); n++) marks.push(n * step);
  return { marks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** Returns the value below which a share of the sorted values lies, linear between them. */
function quantile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/** Returns quartiles and Tukey's whiskers of at least one value. */
function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, middle, high] = [0.25, 0.5, 0.75].map((share) => quantile(sorted, share));
  const reach = 1.5 * (high - low);
  const inside = sorted.filter((value) => value >= low - reach && value <= high + reach);
  return { n: sorted.length, low, middle, high, bottom: inside[0], top: inside.at(-1) };
}

function setUpTheme() {
  const button = byId("theme");
  const themes = ["auto", "light", "dark"];
  const show = (theme) => {
    root.dataset.theme = theme;
    button.querySelector("span").textContent = theme;
  };
  const keep = (theme) => {
    try {
      localStorage.setItem("quieten-theme", theme);
    } catch { /* pages from disk may have no storage */ }
  };
  let stored = null;
  try {
    stored = localStorage.getItem("quieten-theme");
  } catch { /* the same */ }
  show(themes.includes(stored) ? stored : "auto");
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
    show(next);
    keep(next);
  });
}

function sortTable(head) {
  const table = head.closest("table");
  const column = [...head.parentNode.children].indexOf(head);
  const downward = head.getAttribute("aria-sort") !== "descending" && head.classList.contains("number");
  const down = downward || head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const key = (row) => row.cells[column].dataset.value;
  const text = (row) => row.cells[column].textContent;
  const rows = [...body.rows].sort((a, b) => {
    if (!head.classList.contains("number")) return text(a).localeCompare(text(b), "en", { numeric: true });
    if (key(a) === undefined || key(b) === undefined) return (key(a) === undefined) - (key(b) === undefined);
    return key(a) - key(b);
  });
  if (down) {
    const known = rows.filter((row) => !head.classList.contains("number") || key(row) !== undefined);
    body.append(...known.reverse(), ...rows.filter((row) => !known.includes(row)));
  } else {
    body.append(...rows);
  }
}

function headCell(name, numeric) {
  const button = element("button", { type: "button" }, name);
  return element("th", { scope: "col", className: numeric ? "number" : "" }, button);
}

function tableOf(heads, rows) {
  const line = element("tr", {}, ...heads);
  return element(
    "table", { className: "sortable" },
    element("thead", {}, line), element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells))),
  );
}

function numberCell(value, digits, extra = null) {
  const cell = element("td", { className: "number" }, figure(value, digits), extra);
  if (value !== null && value !== undefined) cell.dataset.value = value;
  return cell;
}

/** Draws the paired differences of all systems to the first one. */
function drawForest(metric) {
  const about = data.metrics[metric];
  const differences = data.differences[metric] ?? {};
  const rows = data.systems.filter((system) => differences[system.name]);
  byId("forest-title").textContent = `Difference to ${data.main}`;
  const ends = rows.flatMap((system) => differences[system.name].slice(1)).concat(0);
  const { marks, digits } = ticksBetween(Math.min(...ends), Math.max(...ends), 5);
  const place = (value) => `${(100 * (value - marks[0])) / (marks.at(-1) - marks[0])}%`;
  const grid = element("div", { className: "forest" });
  for (const system of rows) {
    const [mean, low, high] = differences[system.name];
    const strip = shape("svg", { class: `c${system.color}`, "aria-hidden": "true" });
    const zero = place(0);
    strip.append(
      shape("line", { x1: "0%", x2: "100%", y1: "50%", y2: "50%", class: "grid" }),
      shape("line", { x1: zero, x2: zero, y1: 0, y2: "100%", class: "zero" }),
      shape("line", { x1: place(low), x2: place(high), y1: "50%", y2: "50%", class: "median" }),
      shape("circle", { cx: place(mean), cy: "50%", r: 6, class: "point" }),
    );
    const interval = `${figure(low, about.digits, true)} to ${figure(high, about.digits, true)}`;
    grid.append(
      element("div", { className: "name" }, dotOf(system.color), system.name),
      element("div", { className: "figure" }, `${figure(mean, about.digits, true)} `, element("span", {}, interval)),
      strip,
    );
  }
  const axis = shape("svg", { "aria-hidden": "true" });
  for (const mark of marks) axis.append(textAt(place(mark), 14, figure(mark, digits, true)));
  grid.append(axis);
  const side = { 1: "Left of zero is worse", "-1": "Right of zero is worse", 0: "Zero is no difference" }[about.better];
  byId("forest-caption").textContent = rows.length
    ? `${about.title}: mean difference over the same items, with its 95\u00a0% bootstrap interval. ${side}.`
    : `${about.title}: no two systems have it.`;
  byId("forest").replaceChildren(...(rows.length ? [grid] : []));
}

/** Returns [value of the label, values of each system] for all groups of items. */
function groupsBy(metric, label) {
  const places = new Map();
  data.items.forEach((_, item) => {
    const key = label ? data.labels[label].values[item] : "all items";
    places.set(key, [...(places.get(key) ?? []), item]);
  });
  const keys = [...places.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  if (keys.every((key) => Number.isFinite(Number(key)))) keys.sort((a, b) => a - b);
  return keys.map((key) => [
    key,
    data.systems.map((_, system) =>
      places.get(key).map((item) => [item, data.scores[metric][system][item]]).filter((pair) => pair[1] !== null)),
  ]);
}

/** Draws one box: whiskers, quartiles, median, and every item as a dot. */
function drawBox(svg, pairs, x, width, scale, name, digits) {
  const box = spread(pairs.map((pair) => pair[1]));
  const title = `${name}: median ${figure(box.middle, digits)}, middle half ${figure(box.low, digits)} to ${figure(box.high, digits)}, ${box.n} items`;
  const middle = x + width / 2;
  const group = shape("g", {}, title);
  group.append(
    shape("path", { d: `M${middle} ${scale(box.top)}V${scale(box.bottom)}`, class: "mark" }),
    shape("rect", { x, y: scale(box.high), width, height: Math.max(1, scale(box.low) - scale(box.high)), rx: 2, class: "box" }),
    shape("path", { d: `M${x} ${scale(box.middle)}h${width}`, class: "median" }),
  );
  for (const [item, value] of pairs) {
    const sway = (((item * 0.618) % 1) - 0.5) * width * 0.7; // the same place every time
    group.append(shape("circle", { cx: middle + sway, cy: scale(value), r: 1.8, class: "item" }, `${data.items[item]}: ${figure(value, digits)}`));
  }
  svg.append(group);
}

function drawBoxes(metric, label) {
  const about = data.metrics[metric];
  const groups = groupsBy(metric, label);
  const values = groups.flatMap((group) => group[1].flat().map((pair) => pair[1]));
  const by = label ? ` by ${data.labels[label].name.replace(/^[A-Z](?=[a-z])/, (first) => first.toLowerCase())}` : "";
  byId("boxes-title").textContent = `${about.title}${by}`;
  byId("legend").replaceChildren(
    ...data.systems.map((system) => element("span", {}, dotOf(system.color), system.name)));
  const holder = byId("boxes");
  if (!values.length) return holder.replaceChildren();
  const slots = groups.length * (data.systems.length + 0.8);
  const width = Math.max(holder.clientWidth, 50 + slots * 11);
  const height = Math.min(340, 200 + width / 6);
  const { marks, digits } = ticksBetween(Math.min(...values), Math.max(...values), 5);
  const scale = (value) => 10 + ((marks.at(-1) - value) / (marks.at(-1) - marks[0])) * (height - 44);
  const svg = shape("svg", { width, height, role: "img", "aria-label": `Box plots of ${about.title}${by}; the table below has the numbers` });
  for (const mark of marks) {
    svg.append(shape("path", { d: `M46 ${scale(mark)}H${width}`, class: "grid" }), textAt(38, scale(mark) + 4, figure(mark, digits), "end"));
  }
  const slot = (width - 50) / groups.length;
  const step = Math.min(64, slot / (data.systems.length + 0.8));
  groups.forEach(([key, systems], number) => {
    const middle = 50 + slot * (number + 0.5);
    const start = middle - (step * data.systems.length) / 2;
    systems.forEach((pairs, system) => {
      const inner = shape("g", { class: `c${data.systems[system].color}` });
      svg.append(inner);
      if (pairs.length) drawBox(inner, pairs, start + step * (system + 0.14), step * 0.72, scale, data.systems[system].name, about.digits);
    });
    svg.append(textAt(middle, height - 8, key.replace(/^-/, "\u2212")));
  });
  holder.replaceChildren(svg);
  byId("boxes-table").replaceChildren(boxesTable(groups, label, about));
}

function boxesTable(groups, label, about) {
  const names = ["System", "Items", "Median", "Lower quartile", "Upper quartile"];
  const heads = [label ? data.labels[label].name : "Group", ...names].map((name, place) => headCell(name, place > 1));
  const rows = groups.flatMap(([key, systems]) =>
    systems.map((pairs, system) => {
      const box = pairs.length ? spread(pairs.map((pair) => pair[1])) : {};
      return [
        element("th", { scope: "row" }, key), element("td", {}, data.systems[system].name),
        numberCell(pairs.length, 0), ...[box.middle, box.low, box.high].map((value) => numberCell(value, about.digits)),
      ];
    }));
  return tableOf(heads, rows);
}

function drawItems(metric) {
  const about = data.metrics[metric];
  byId("all").querySelector("summary").textContent = `All ${data.items.length} items, ${about.title}`;
  const heads = [headCell("Item", false), ...data.systems.map((system) => headCell(system.name, true))];
  const rows = data.items.map((name, item) => {
    const card = data.cards[name];
    const shown = card ? element("a", { href: `#${card}` }, name) : name;
    const cells = data.systems.map((_, system) => numberCell(data.scores[metric][system][item], about.digits));
    return [element("th", { scope: "row" }, shown), ...cells];
  });
  byId("all-table").replaceChildren(tableOf(heads, rows));
}

function setUpFigures() {
  const [metric, label] = [byId("metric"), byId("label")];
  for (const [key, about] of Object.entries(data.metrics)) metric.append(new Option(about.title, key));
  for (const [key, about] of Object.entries(data.labels)) label.append(new Option(about.name, key));
  label.append(new Option("nothing", ""));
  metric.value = data.metric;
  const draw = () => {
    drawForest(metric.value);
    drawBoxes(metric.value, label.value);
    drawItems(metric.value);
  };
  for (const control of [metric, label]) control.addEventListener("change", draw);
  draw();
  let width = byId("boxes").clientWidth;
  new ResizeObserver(() => {
    if (width === byId("boxes").clientWidth) return;
    width = byId("boxes").clientWidth;
    drawBoxes(metric.value, label.value);
  }).observe(byId("boxes"));
  byId("more").addEventListener("change", (event) => root.classList.toggle("all", event.target.checked));
}

document.addEventListener("click", (event) => {
  const head = event.target.closest("table.sortable thead button")?.closest("th");
  if (head) sortTable(head);
});
setUpTheme();
if (byId("metric")) setUpFigures();
for (const input of all('input[name="view"]')) {
  input.addEventListener("change", () => { root.dataset.view = input.value; });
}
