// Small helpers: texts are set as texts, never as markup.

export const byId = (id) => document.getElementById(id);

/** Make an element with properties and children; strings become texts. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Say something to a screen reader. */
export function announce(text) {
  byId("status").textContent = text;
}

let hiding = 0;

/** Show a problem for some seconds. */
export function complain(error) {
  if (error.name === "AbortError") return;
  const shown = byId("problem");
  shown.textContent = error.message;
  shown.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { shown.hidden = true; }, 6000);
}

export const percent = (p) => (p >= 0.1 || p === 0 ? `${Math.round(100 * p)} %` : `${(100 * p).toFixed(1)} %`);

/** Send a request, and drop its answer if a later request was sent meanwhile. */
export function latest() {
  let turn = 0;
  return async (ask, use) => {
    const mine = ++turn;
    try {
      const found = await ask();
      if (mine === turn) use(found);
    } catch (error) {
      if (mine === turn) complain(error);
    }
  };
}
