// What is shown is written in the address: it can be kept, sent to another tab, and gone back from.

/** Read the address. */
export function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const region = (given.get("region") ?? "").split(",").map(Number);
  const over = Number.parseInt(given.get("over") ?? "", 10);
  return {
    photo: given.get("photo"),
    layer: given.get("layer"),
    region: region.length === 4 && region.every((n) => Number.isInteger(n) && n >= 0) ? region : null,
    texts: given.getAll("text"),
    off: given.getAll("off"),
    over: Number.isInteger(over) ? over : null,
  };
}

/** Write the address; the page follows by "hashchange". */
export function writeAddress(state, { replace = false } = {}) {
  const given = new URLSearchParams();
  if (state.photo) given.set("photo", state.photo);
  if (state.layer) given.set("layer", state.layer);
  if (state.region) given.set("region", state.region.join(","));
  state.texts.forEach((text) => given.append("text", text));
  state.off.forEach((text) => given.append("off", text));
  if (state.over !== null) given.set("over", String(state.over));
  if (replace) location.replace(`#${given}`);
  else location.hash = String(given);
}
