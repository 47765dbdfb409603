// The words of a region: phrases as soon as they are known, the sentence after them.

import { announce, byId, complain, latest, make, percent } from "./dom.js";

const requestPhrases = latest();
const requestSentence = latest();
const PAUSE = 120;
let waiting = 0;

/** Name a region. */
export function nameOf(region, grid) {
  if (!region) return "The whole photograph";
  const [top, left, bottom, right] = region;
  const span = (from, to) => (from === to ? `${from + 1}` : `${from + 1} to ${to + 1}`);
  return `Row ${span(top, bottom)}, column ${span(left, right)} of ${grid.join(" × ")}`;
}

/** Read a region. */
export function showWords(answers, question, grid, sentences) {
  byId("where").textContent = nameOf(question.region, grid);
  byId("words").classList.add("waiting");
  byId("words").dataset.requested = JSON.stringify(question);
  clearTimeout(waiting);
  byId("sentence").textContent = "";
  requestSentence(async () => null, () => {});
  requestPhrases(() => answers.words(question).catch(refused), (found) => {
    if (found === null) return;
    showPhrases(found, question);
    if (sentences) waiting = setTimeout(() => showSentence(answers, question), PAUSE);
  });
}

function refused(error) {
  byId("words").classList.remove("waiting");
  byId("headline").textContent = "";
  byId("phrases").replaceChildren();
  complain(error);
  return null;
}

function sureness(probability, unsure) {
  const text = [probability === null ? "" : percent(probability), unsure ? "unsure" : ""].filter(Boolean).join(", ");
  return make("small", { className: unsure ? "unsure" : "", textContent: text });
}

function showPhrases(found, question) {
  byId("words").classList.remove("waiting");
  byId("headline").replaceChildren(found.text, sureness(found.probability, found.unsure));
  const shares = found.probability !== null;
  byId("phrases").replaceChildren(...found.phrases.map(([text, value]) => phrase(text, value, shares)));
  byId("words").dataset.answered = JSON.stringify(question);
  const sure = found.probability === null ? "" : `, ${percent(found.probability)}${found.unsure ? ", unsure" : ""}`;
  announce(`${byId("where").textContent}: ${found.text}${sure}`);
}

function phrase(text, value, shares) {
  const bar = make("span", { className: "bar" });
  bar.style.width = shares ? `${100 * Math.min(value, 1)}%` : "0";
  return make("li", {}, bar, make("span", { textContent: text }), make("b", { textContent: shares ? percent(value) : value.toFixed(3) }));
}

function showSentence(answers, question) {
  const shown = byId("sentence");
  shown.textContent = "…";
  requestSentence(() => answers.sentence(question), (found) => {
    const none = found.text === null ? "No sentence fits as well as these phrases." : "";
    shown.replaceChildren(...(found.text ? [found.text, " ", sureness(found.probability, found.unsure)] : [none]));
    shown.dataset.answered = JSON.stringify(question);
    if (found.text) announce(found.text);
  });
}
