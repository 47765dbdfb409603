// The layers, as one choice.

import { byId, make } from "./dom.js";

/** List the layers. */
export function showLayers(layers, current, choose) {
  const field = byId("layers");
  const drawn = field.dataset.names === JSON.stringify(layers);
  if (!drawn) {
    field.dataset.names = JSON.stringify(layers);
    field.replaceChildren(field.querySelector("legend"), ...layers.map((layer) => option(layer, choose)));
  }
  for (const input of field.querySelectorAll("input")) input.checked = input.value === current;
}

function option({ name, grid }, choose) {
  const input = make("input", { type: "radio", name: "layer", value: name });
  input.addEventListener("change", () => choose(name));
  const size = make("small", { textContent: grid ? ` ${grid.join("×")}` : "" });
  return make("label", { title: name }, input, make("span", {}, name, size));
}

/** Carry a region to another grid: the locations that cover it. */
export function carried(region, from, to) {
  if (!region || !from || !to) return null;
  const first = (at, axis) => Math.floor((at * to[axis]) / from[axis] + 1e-9);
  const last = (at, axis) => Math.ceil(((at + 1) * to[axis]) / from[axis] - 1e-9) - 1;
  const [top, left, bottom, right] = region;
  if (top === bottom && left === right && to[0] * to[1] > from[0] * from[1]) {
    const middle = (at, axis) => Math.floor(((at + 0.5) * to[axis]) / from[axis]);
    return [middle(top, 0), middle(left, 1), middle(top, 0), middle(left, 1)];
  }
  return [first(top, 0), first(left, 1), last(bottom, 0), last(right, 1)];
}
