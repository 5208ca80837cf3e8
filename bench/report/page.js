"use strict";

const { specs, drawings } = JSON.parse(document.getElementById("data").textContent);
const views = [];
const shown = new Set();

/* The theme: the system's, light or dark; the colours are the style sheet's. */
const THEMES = ["system", "light", "dark"];

function setUpTheme() {
  const button = document.getElementById("theme");
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || "system";
    const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    document.documentElement.dataset.theme = next;
    button.textContent = `Theme: ${next}`;
  });
}

function showOnly() {
  const names = [...shown];
  for (const view of views) view.signal("shown", names).runAsync();
  filterTable();
}

function setUpLegend() {
  for (const button of document.querySelectorAll("#legend button")) {
    const name = button.dataset.architecture;
    shown.add(name);
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(pressed));
      if (pressed) shown.add(name);
      else shown.delete(name);
      showOnly();
    });
  }
}

const table = document.getElementById("table");
const lines = table ? [...table.tBodies[0].rows] : [];
const texts = new Map(); // of each line, for the filter: read once

function textOf(line) {
  if (!texts.has(line)) {
    const text = [...line.cells].map((cell) => cell.textContent).join(" ");
    texts.set(line, text.toLowerCase().replaceAll(",", ""));
  }
  return texts.get(line);
}

function filterTable() {
  if (!table) return;
  const words = document.getElementById("filter").value.toLowerCase().replaceAll(",", "").split(/\s+/).filter(Boolean);
  let count = 0;
  for (const line of lines) {
    const matches = shown.has(line.dataset.architecture) && words.every((word) => textOf(line).includes(word));
    line.hidden = !matches;
    if (matches) count += 1;
  }
  document.getElementById("matches").textContent = count === lines.length ? "" : `${count} of ${lines.length} cells`;
}

/* What is missing stays at the end in both directions. */
function sortTable(column, numeric, descending) {
  const key = (line) => line.cells[column].dataset.key;
  const order = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
  const sorted = [...lines].sort((first, second) => {
    const [a, b] = [key(first), key(second)];
    if (a === "" || b === "") return (a === "") - (b === "");
    return descending ? order(b, a) : order(a, b);
  });
  table.tBodies[0].append(...sorted);
}

function setUpTable() {
  if (!table) return;
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortTable(column, heading.classList.contains("number"), descending);
    });
  });
  document.getElementById("filter").addEventListener("input", filterTable);
  const link = document.getElementById("csv");
  link.addEventListener("click", () => {
    const rows = [...table.tBodies[0].rows].filter((line) => !line.hidden);
    link.href = asCsv([table.tHead.rows[0], ...rows].map((line) => [...line.cells].map((cell) => cell.textContent)));
  });
}

/* Lists of texts as a CSV file in a link. */
function asCsv(rows) {
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const text = rows.map((row) => `${row.map((value) => quoted(String(value ?? ""))).join(",")}\n`).join("");
  return `data:text/csv;charset=utf-8,${encodeURIComponent(text)}`;
}

/* What a chart draws, as rows: its named data one below the other, told apart by the first column. */
function rowsOf(datasets) {
  const parts = Object.entries(datasets);
  const names = [...new Set(parts.flatMap(([, points]) => points.flatMap(Object.keys)))].filter((name) => name !== "slot");
  const several = parts.length > 1;
  const rows = parts.flatMap(([part, points]) => points.map((point) => [...(several ? [part] : []), ...names.map((name) => point[name])]));
  return [[...(several ? ["what"] : []), ...names], ...rows];
}

/* Built when it is opened: most are not. */
function setUpData(place, index, title) {
  place.addEventListener("toggle", () => {
    if (place.childElementCount > 1) return;
    const rows = rowsOf(drawings[index].datasets);
    const links = document.createElement("p");
    links.append(download(`${title}.csv`, "CSV", asCsv(rows)));
    const box = document.createElement("div");
    box.className = "wide rows";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", `Data of ${title}`);
    const built = document.createElement("table");
    rows.forEach((row, number) => {
      const line = (number ? built.tBodies[0] || built.createTBody() : built.createTHead()).insertRow();
      for (const value of row) {
        const cell = number ? line.insertCell() : line.appendChild(document.createElement("th"));
        if (typeof value === "number") cell.className = "number";
        cell.textContent = typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value ?? "");
      }
    });
    box.append(built);
    place.append(links, box);
    if (views[index]) addImages(links, views[index], title);
  });
}

async function addImages(links, view, title) {
  const svg = (await view.toSVG()).replaceAll("currentColor", "#333333");
  links.append(" ", download(`${title}.svg`, "SVG", `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`));
}

function download(name, text, href) {
  const link = document.createElement("a");
  Object.assign(link, { download: name.replace(/[^\p{L}\p{N}.]+/gu, "_"), textContent: text, href });
  return link;
}

const BUSY_MS = 200; // a page that is repainted after each chart takes twice as long
const resting = () => new Promise((go) => setTimeout(go));

/* SVG, whose currentColor follows the page into dark mode and onto paper. The page can be used while
   the charts come. */
async function draw() {
  const places = document.querySelectorAll(".chart");
  const titles = [...document.querySelectorAll("figcaption b")].map((title) => title.textContent);
  document.querySelectorAll("details.data").forEach((place, index) => setUpData(place, index, titles[index]));
  const n = document.querySelectorAll("#legend button").length;
  let rested = -BUSY_MS;
  for (const [index, { spec, datasets }] of drawings.entries()) {
    if (performance.now() - rested > BUSY_MS) {
      await resting();
      rested = performance.now();
    }
    const options = { actions: false, renderer: "svg" };
    const { view } = await vegaEmbed(places[index], { ...specs[spec], datasets }, options);
    views.push(view);
    if (shown.size < n) view.signal("shown", [...shown]).runAsync();
  }
  document.documentElement.dataset.drawn = String(views.length);
}

setUpTheme();
setUpLegend();
setUpTable();
draw();
