// Maps of texts: a row a text, a column a layer, all on one scale.

import { byId, latest, make } from "./dom.js";
import { paint, paintScale } from "./colours.js";

const request = latest();

/** Show the maps of texts. */
export function showMaps(answers, { photo, texts }, change) {
  if (texts.length === 0) {
    request(async () => null, () => { byId("maps").replaceChildren(); byId("legend").hidden = true; change.drawn(null); });
    return;
  }
  request(() => answers.maps({ photo, texts }), (found) => {
    byId("maps").replaceChildren(table(found, change));
    byId("maps").dataset.answered = JSON.stringify(texts);
    byId("legend").hidden = false;
    byId("low").textContent = found.low.toFixed(2);
    byId("high").textContent = `${found.high.toFixed(2)} (raw ${found.kind}, one scale)`;
    paintScale(byId("scale"));
    change.drawn(found);
  });
}

/** Mark the map that lies over the photograph. */
export function markMap(over, layer) {
  for (const button of byId("maps").querySelectorAll("td button[aria-pressed]")) {
    button.setAttribute("aria-pressed", String(button.dataset.row === String(over) && button.dataset.layer === layer));
  }
}

function table(found, change) {
  const heads = found.layers.map(({ name }) => make("th", { scope: "col", textContent: name, title: name }));
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: "text" }), ...heads));
  const rows = found.texts.map((text, row) => {
    const remove = make("button", { type: "button", className: "remove", textContent: "×", ariaLabel: `Remove ${text}` });
    remove.addEventListener("click", () => change.remove(row));
    const cells = found.layers.map((layer) => make("td", {}, small(found, layer, text, row, change)));
    return make("tr", {}, make("th", { scope: "row", textContent: text }), ...cells, make("td", {}, remove));
  });
  return make("table", {}, head, make("tbody", {}, ...rows));
}

function small(found, layer, text, row, change) {
  const canvas = make("canvas", { ariaHidden: "true" });
  const values = layer.maps[row];
  paint(canvas, values, layer.grid, found.low, found.high, 72);
  const top = values.indexOf(values.reduce((a, b) => Math.max(a, b)));
  const at = [Math.floor(top / layer.grid[1]), top % layer.grid[1]];
  const button = make("button", { type: "button", ariaPressed: "false" }, canvas);
  const label = `${text} at ${layer.name}: highest ${values[top].toFixed(2)} at row ${at[0] + 1}, column ${at[1] + 1}`;
  Object.assign(button, { ariaLabel: label, title: label });
  Object.assign(button.dataset, { row, layer: layer.name });
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => change.over(row, layer.name));
  return button;
}
