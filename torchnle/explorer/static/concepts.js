// Concepts are switched off by name; the classes' logits move.

import { announce, byId, latest, make, percent } from "./dom.js";

const compared = latest();

/** Compare the classes with and without concepts. */
export function showConcepts(answers, { photo, off }, toggle) {
  compared(() => answers.classes({ photo, off }), (found) => {
    const names = [...new Set([...off, ...found.concepts])];
    byId("concepts").replaceChildren(...names.map((name) => chip(name, off.includes(name), toggle)));
    rows(found.classes, off.length > 0);
    byId("why").dataset.answered = JSON.stringify(off);
    if (off.length) announce(`Without ${off.join(", ")}: ${[...found.classes].sort((a, b) => b.after - a.after)[0].name}`);
  });
}

function chip(name, off, toggle) {
  const button = make("button", { type: "button", textContent: name });
  button.setAttribute("aria-pressed", String(off));
  button.addEventListener("click", () => toggle(name));
  return button;
}

function rows(classes, moved) {
  const focused = document.activeElement?.textContent;
  const values = classes.flatMap(({ before, after }) => [before, after]);
  const [low, high] = [Math.min(...values, 0), Math.max(...values)];
  const share = (value) => `${(100 * (value - low)) / (high - low || 1)}%`;
  const sorted = [...classes].sort((a, b) => b.after - a.after);
  byId("classes").tBodies[0].replaceChildren(...sorted.map((each) => row(each, moved, share)));
  if (document.activeElement === document.body) {
    [...byId("concepts").children].find((button) => button.textContent === focused)?.focus();
  }
}

function row(each, moved, share) {
  const bar = make("i");
  bar.style.width = share(each.after);
  const mark = make("u");
  mark.style.left = share(each.before);
  const track = make("div", { className: "track", ariaHidden: "true" }, bar, mark);
  const change = each.after - each.before;
  const shown = moved ? `${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(2)}` : "";
  return make("tr", {},
    make("th", { scope: "row", textContent: each.name }), make("td", {}, track),
    make("td", { textContent: `${each.after.toFixed(2)} (${percent(each.probability_after)})` }),
    make("td", { textContent: shown, className: change < 0 ? "less" : "" }));
}
