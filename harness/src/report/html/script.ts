/**
 * The page's script: copy a command, filter the cases, open the case that a link leads to.
 * Without it everything can still be read. Touches text and attributes only: no markup is ever made here.
 */
export const script: string = `
"use strict";
const live = document.getElementById("live");
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.previousElementSibling.textContent;
    try {
      await navigator.clipboard.writeText(text);
      live.textContent = "Copied: " + text;
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
function openTarget() {
  const target = location.hash === "" ? null : document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const around = target?.closest("details");
  if (!around) return;
  document.querySelectorAll("[popover]").forEach((one) => { if (one.matches(":popover-open")) one.hidePopover(); });
  around.open = true;
  around.hidden = false;
  around.scrollIntoView();
  around.querySelector("summary").focus({ preventScroll: true });
}
addEventListener("hashchange", openTarget);
openTarget();
const form = document.getElementById("filters");
form.hidden = false;
const cases = [...document.querySelectorAll("details.case")];
const cells = [...document.querySelectorAll("a.cell")];
const table = document.getElementById("matrix-table");
const shown = document.getElementById("shown");
const choices = ["proposal", "engine", "machine", "ground"];
/** Hides what does not fit, and says how much is left. */
function choose(all, fits) {
  let count = 0;
  for (const one of all) {
    one.hidden = !fits(one);
    if (!one.hidden) count += 1;
  }
  return count;
}
/** Rows and columns of the matrix without a cell go, too. */
function closeGaps() {
  if (table === null) return;
  const used = new Set([0]);
  for (const row of table.tBodies[0].rows) {
    let isEmpty = true;
    [...row.cells].forEach((cell, column) => {
      if (cell.querySelector("a.cell:not([hidden])") === null) return;
      used.add(column);
      isEmpty = false;
    });
    row.hidden = isEmpty;
  }
  for (const row of table.rows) [...row.cells].forEach((cell, column) => { cell.hidden = !used.has(column); });
}
function filter() {
  const text = form.elements.text.value.toLowerCase();
  const kinds = new Set([...form.querySelectorAll("input[name=verdict]:checked")].map((box) => box.value));
  const asked = choices.map((name) => [name, form.elements[name].value]).filter(([, value]) => value !== "");
  const fits = ({ dataset }) =>
    kinds.has(dataset.verdict) && dataset.text.includes(text) && asked.every(([name, value]) => dataset[name] === value);
  choose(cells, fits);
  closeGaps();
  shown.textContent = choose(cases, fits) + " of " + cases.length + " cases shown";
}
form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
filter();
`;
