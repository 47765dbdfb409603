// Who answers: the server that served this page, or what was written into it.

/** Find who answers. */
export function findAnswers() {
  const inside = document.getElementById("answers");
  return inside ? embedded(JSON.parse(inside.textContent)) : live();
}

function live() {
  const token = document.querySelector("meta[name=torchnle-token]").content;

  async function ask(name, question, headers = {}) {
    const post = { method: "POST", body: question, headers: { "x-torchnle-token": token, ...headers } };
    const reply = await fetch(`api/${name}`, question === undefined ? {} : post);
    const answer = await reply.json().catch(() => ({ error: `the server answered ${reply.status}` }));
    if (!reply.ok) throw new Error(answer.error);
    return answer;
  }

  const told = (name) => (question) => ask(name, JSON.stringify(question));
  return {
    start: () => ask("start"),
    about: told("about"),
    words: told("words"),
    sentence: told("sentence"),
    maps: told("maps"),
    classes: told("classes"),
    picture: (key) => `photo/${encodeURIComponent(key)}.jpg`,
    add: (file) => ask("photo", file, { "x-file-name": encodeURIComponent(file.name) }),
  };
}

function embedded(data) {
  const of = (key) => data.photos[key];
  const spelled = ([text, probability, unsure, score, phrases], kind) => ({
    text: data.phrases[text], probability, unsure: Boolean(unsure), score, kind,
    phrases: phrases.map(([number, value]) => [data.phrases[number], value]),
  });

  async function words({ photo, layer, region }) {
    const found = of(photo).words[layer];
    if (region === null) return spelled(found.whole, found.kind);
    const [top, left, bottom, right] = region;
    if (top !== bottom || left !== right) {
      throw new Error("This page was written for single locations; run torchnle explore to read regions.");
    }
    const { grid } = of(photo).about.layers.find((each) => each.name === layer);
    return spelled(found.cells[top * grid[1] + left], found.kind);
  }

  async function maps({ photo, texts }) {
    const all = of(photo).maps;
    const chosen = texts.map((text) => (all ? all.texts.indexOf(text) : -1));
    if (chosen.includes(-1)) throw new Error("This text was not written into the page; run torchnle explore for new ones.");
    const layers = all.layers.map((each) => ({ ...each, maps: chosen.map((i) => each.maps[i]) }));
    const values = layers.flatMap((each) => each.maps.flat());
    const [low, high] = values.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [Infinity, -Infinity]);
    return { ...all, texts, layers, low, high };
  }

  async function classes({ photo, off }) {
    const found = of(photo).classes[[...off].sort().join("\n")];
    if (!found) throw new Error("This concept was not written into the page; run torchnle explore for others.");
    return found;
  }

  return {
    start: async () => data.start,
    about: async ({ photo }) => of(photo).about,
    words,
    sentence: async ({ photo, layer, region }) => (region === null ? of(photo).sentences[layer] ?? {} : {}),
    maps,
    classes,
    picture: (key) => of(key).picture,
    add: null,
  };
}
