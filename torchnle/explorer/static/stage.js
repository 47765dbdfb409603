// The photograph: its locations are pointed at, dragged over, or walked through by keys.

import { announce, byId } from "./dom.js";
import { paint } from "./colours.js";

const stage = byId("stage");
let grid = null;
let cursor = [0, 0];
let anchor = null;
let chosen = () => {};
let dragged = null;

/** Connect the photograph; `choose` is called with a region, or null for the whole. */
export function openStage(choose) {
  chosen = choose;
  stage.addEventListener("pointerdown", pressed);
  stage.addEventListener("pointermove", moved);
  stage.addEventListener("pointerup", released);
  stage.addEventListener("pointercancel", () => { dragged = null; });
  stage.addEventListener("pointerleave", () => { byId("hover").hidden = true; });
  stage.addEventListener("keydown", typed);
  byId("skip").addEventListener("click", (event) => { event.preventDefault(); stage.focus(); });
  new ResizeObserver(ruled).observe(stage);
}

/** Show a photograph; it is as large as its frame lets it be, without a border. */
export function showPhoto(source, { name, width, height }) {
  byId("photo").src = source;
  stage.setAttribute("aria-label", `Photograph ${name}`);
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.width = `min(100cqw, calc(100cqh * ${width / height}))`;
  if (getComputedStyle(byId("frame")).containerType === "inline-size") stage.style.width = "100%";
}

/** Show a layer's grid and the region that is read. */
export function showRegion(newGrid, region) {
  if (String(newGrid) !== String(grid)) anchor = null;
  grid = newGrid;
  stage.dataset.grid = grid ? grid.join("x") : "";
  place(byId("selection"), region);
  if (region) [cursor, anchor] = [[region[2], region[3]], [region[0], region[1]]];
  if (grid) cursor = [Math.min(cursor[0], grid[0] - 1), Math.min(cursor[1], grid[1] - 1)];
  place(byId("cursor"), grid && [...cursor, ...cursor]);
  ruled();
}

/** Lay a map over the photograph; null = none. */
export function showHeat(values, mapGrid, low, high) {
  byId("heat").hidden = values === null;
  stage.classList.toggle("heated", values !== null);
  if (values !== null) paint(byId("heat"), values, mapGrid, low, high, 256);
}

function place(element, region) {
  element.hidden = !region || !grid;
  if (element.hidden) return;
  const [top, left, bottom, right] = region;
  element.style.top = `${(100 * top) / grid[0]}%`;
  element.style.left = `${(100 * left) / grid[1]}%`;
  element.style.height = `${(100 * (bottom + 1 - top)) / grid[0]}%`;
  element.style.width = `${(100 * (right + 1 - left)) / grid[1]}%`;
}

/** Draw the grid's lines where locations are large enough to tell apart. */
function ruled() {
  const lines = byId("lines").style;
  const wide = grid && stage.clientWidth / grid[1] >= 14;
  lines.backgroundImage = wide
    ? "linear-gradient(to right, #fff 1px, transparent 1px), linear-gradient(to bottom, #fff 1px, transparent 1px)"
    : "none";
  if (wide) lines.backgroundSize = `calc(100% / ${grid[1]}) calc(100% / ${grid[0]})`;
}

/** The location under the pointer: shares of the photograph's box, whatever its size or the zoom. */
function located(event) {
  const box = stage.getBoundingClientRect();
  const share = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
  return share.map((part, axis) => Math.min(Math.max(Math.floor(part * grid[axis]), 0), grid[axis] - 1));
}

const spanned = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];

function pressed(event) {
  if (!grid || event.button !== 0) return;
  stage.setPointerCapture(event.pointerId);
  dragged = located(event);
}

function moved(event) {
  if (!grid) return;
  const here = located(event);
  if (dragged) place(byId("selection"), spanned(dragged, here));
  place(byId("hover"), [...here, ...here]);
}

function released(event) {
  if (!dragged) return;
  const region = spanned(dragged, located(event));
  dragged = null;
  chosen(region);
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function typed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape") {
    anchor = null;
    chosen(null);
  } else if (grid && (event.key === "Enter" || event.key === " ")) {
    chosen(spanned(anchor ?? cursor, cursor));
  } else if (grid && event.key in STEPS) {
    step(STEPS[event.key], event.shiftKey);
  } else {
    return;
  }
  event.preventDefault();
}

function step(by, widen) {
  const start = cursor;
  cursor = cursor.map((at, axis) => Math.min(Math.max(at + by[axis], 0), grid[axis] - 1));
  anchor = widen ? anchor ?? start : null;
  place(byId("cursor"), spanned(anchor ?? cursor, cursor));
  announce(`row ${cursor[0] + 1} of ${grid[0]}, column ${cursor[1] + 1} of ${grid[1]}`);
}
