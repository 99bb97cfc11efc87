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
const shown = document.getElementById("shown");
function filter() {
  const text = form.elements.text.value.toLowerCase();
  const kinds = new Set([...form.querySelectorAll("input[name=verdict]:checked")].map((box) => box.value));
  let count = 0;
  for (const one of cases) {
    const fits = kinds.has(one.dataset.verdict) && one.dataset.text.includes(text);
    one.hidden = !fits;
    if (fits) count += 1;
  }
  shown.textContent = count + " of " + cases.length + " cases shown";
}
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();
`;
