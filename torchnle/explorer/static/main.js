// The page: it shows what its address says, and what is done on it changes the address.

import { readAddress, writeAddress } from "./address.js";
import { findAnswers } from "./answers.js";
import { showConcepts } from "./concepts.js";
import { byId, complain, latest } from "./dom.js";
import { carried, showLayers } from "./layers.js";
import { markMap, showMaps } from "./maps.js";
import { openPhotos, showPhotos } from "./photos.js";
import { openStage, showHeat, showPhoto, showRegion } from "./stage.js";
import { showWords } from "./words.js";

const answers = findAnswers();
const turned = latest();
let start = null;
let shown = { photo: null, layer: null, region: null, texts: [], off: [], over: null };
let about = null;
let maps = null;

const go = (change, options) => writeAddress({ ...shown, ...change }, options);
const gridOf = (layer) => about.layers.find((each) => each.name === layer)?.grid ?? null;

/** Show what the address says; what it leaves open is the first photograph and the last layer. */
async function follow() {
  const requested = readAddress();
  const exists = start.photos.some(({ key }) => key === requested.photo);
  const photo = exists ? requested.photo : start.photos[0]?.key;
  byId("stage").hidden = !photo;
  byId("empty").hidden = Boolean(photo);
  if (!photo) return;
  await turned(async () => (photo === shown.photo ? about : answers.about({ photo })), (found) => show(requested, photo, found));
}

function show(requested, photo, found) {
  const before = shown;
  const first = before.photo === null;
  const moved = photo !== before.photo;
  about = found;
  const layer = gridOf(requested.layer) || about.layers.some(({ name }) => name === requested.layer) ? requested.layer : about.layers.at(-1).name;
  shown = { ...requested, photo, layer, region: within(requested.region, gridOf(layer)) };
  const changed = (...names) => first || names.some((name) => JSON.stringify(shown[name]) !== JSON.stringify(before[name]));
  if (moved) {
    showPhoto(answers.picture(photo), about.photo);
    maps = null;
  }
  showPhotosNow();
  showLayers(about.layers, layer, (name) => go({ layer: name, region: carried(shown.region, gridOf(shown.layer), gridOf(name)) }));
  showRegion(gridOf(layer), shown.region);
  if (changed("photo", "layer", "region")) {
    showWords(answers, { photo, layer, region: shown.region }, gridOf(layer), start.sentences);
  }
  if (changed("photo", "texts")) showMaps(answers, shown, { drawn, remove, over });
  if (start.concepts && changed("photo", "off")) showConcepts(answers, shown, toggle);
  heat();
}

function within(region, grid) {
  if (!region || !grid) return null;
  const [top, left, bottom, right] = region;
  return top <= bottom && left <= right && bottom < grid[0] && right < grid[1] ? region : null;
}

function drawn(found) {
  maps = found;
  heat();
}

/** Lay the chosen map over the photograph. */
function heat() {
  const layer = maps?.layers.find(({ name }) => name === shown.layer);
  const values = layer?.maps[shown.over] ?? null;
  showHeat(values, layer?.grid, maps?.low, maps?.high);
  markMap(values ? shown.over : null, shown.layer);
}

function over(row, layer) {
  if (shown.over === row && shown.layer === layer) go({ over: null });
  else go({ over: row, layer, region: layer === shown.layer ? shown.region : carried(shown.region, gridOf(shown.layer), gridOf(layer)) });
}

function remove(row) {
  const texts = shown.texts.filter((_, i) => i !== row);
  const next = shown.over === row ? null : shown.over > row ? shown.over - 1 : shown.over;
  go({ texts, over: shown.over === null ? null : next });
}

function toggle(name) {
  go({ off: shown.off.includes(name) ? shown.off.filter((each) => each !== name) : [...shown.off, name] });
}

function showPhotosNow() {
  showPhotos(start.photos, shown.photo, answers, (key) => go({ photo: key, region: null, off: [] }));
}

async function add(file) {
  byId("add").classList.add("waiting");
  const photo = await answers.add(file);
  if (!start.photos.some(({ key }) => key === photo.key)) start.photos.push(photo);
  go({ photo: photo.key, region: null, off: [] });
}

/** Take what is typed into a form; too many at once are refused. */
function onTyped(form, field, name) {
  byId(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId(field).value.trim();
    byId(field).value = "";
    if (!text || !about || shown[name].includes(text)) return;
    if (shown[name].length >= start.limits.texts) complain(new Error(`There is room for ${start.limits.texts}; remove one first.`));
    else go(name === "texts" ? { texts: [...shown.texts, text], over: shown.over ?? shown.texts.length } : { [name]: [...shown[name], text] });
  });
}

async function open() {
  start = await answers.start();
  byId("model").textContent = start.model;
  byId("about").textContent = start.about;
  byId("why").hidden = !start.concepts;
  if (start.units) Object.assign(byId("units"), { href: start.units, hidden: false });
  openStage((region) => go({ region }));
  if (answers.add) openPhotos(add);
  onTyped("ask", "text", "texts");
  onTyped("blind", "concept", "off");
  addEventListener("hashchange", () => follow().catch(complain));
  if (start.texts?.length && !location.hash) writeAddress({ ...shown, texts: start.texts }, { replace: true });
  await follow();
  document.body.dataset.ready = "true";
}

open().catch(complain);
