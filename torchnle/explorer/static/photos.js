// The photographs: those that were given, and those that are dropped in.

import { byId, complain, make } from "./dom.js";

/** Connect adding: by the button, by dropping, by pasting. */
export function openPhotos(add) {
  byId("add").hidden = false;
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) add(file).catch(complain);
    event.target.value = "";
  });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file) add(file).catch(complain);
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) add(file).catch(complain);
  });
}

/** List the photographs. */
export function showPhotos(photos, current, answers, choose) {
  byId("photos").replaceChildren(...photos.map((photo) => {
    const image = make("img", { src: answers.picture(photo.key), alt: photo.name });
    const button = make("button", { type: "button", title: photo.name }, image);
    button.setAttribute("aria-current", String(photo.key === current));
    button.addEventListener("click", () => choose(photo.key));
    return make("li", {}, button);
  }));
}
