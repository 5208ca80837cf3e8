"use strict";

const drawings = JSON.parse(document.getElementById("data").textContent);
const views = [];
const shown = new Set();

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
const body = table.tBodies[0];
const lines = [...body.rows];

function filterTable() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const line of lines) {
    const text = [...line.cells].map((cell) => cell.textContent).join(" ").toLowerCase().replaceAll(",", "");
    const matches = shown.has(line.dataset.architecture) && words.every((word) => text.includes(word.replaceAll(",", "")));
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
  body.append(...sorted);
}

function setUpTable() {
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
}

/* SVG, whose currentColor follows the page into dark mode and onto paper. */
async function draw() {
  const places = document.querySelectorAll(".chart");
  for (const [index, { spec, datasets }] of drawings.entries()) {
    const { view } = await vegaEmbed(places[index], { ...spec, datasets }, { actions: false, renderer: "svg" });
    views.push(view);
  }
  document.documentElement.dataset.drawn = String(views.length);
}

setUpLegend();
setUpTable();
draw();
