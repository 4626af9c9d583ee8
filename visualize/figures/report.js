"use strict";
// The gallery of the report: cards with the attention of each word, search and sorting.

const report = JSON.parse(document.getElementById("data").textContent);
const PAGE = 60; // cards that are made at a time
const OPACITY = 165; // of the attention over the photograph, of 255

function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

const ramp = report.colors ? bytes(report.colors) : null; // 256 colors: red, green, blue

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// The weights of one word: bytes, row by row, 255 being the highest of the whole caption.
function weights(item, word) {
  const [rows, columns] = item.grid;
  item.bytes ??= bytes(item.alphas);
  return item.bytes.subarray(word * rows * columns, (word + 1) * rows * columns);
}

// For each pixel along an axis the two cells it lies between, and how far from the first.
function between(pixels, cells) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const place = Math.min(Math.max(((pixel + 0.5) * cells) / pixels - 0.5, 0), cells - 1);
    const first = Math.min(Math.floor(place), Math.max(cells - 2, 0));
    return [first, Math.min(first + 1, cells - 1), place - first];
  });
}

function drawAttention(canvas, item, word) {
  const [rows, columns] = item.grid;
  const alpha = weights(item, word);
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const across = between(width, columns);
  let at = 0;
  for (const [top, bottom, down] of between(height, rows)) {
    for (const [left, right, along] of across) {
      const above = alpha[top * columns + left] * (1 - along) + alpha[top * columns + right] * along;
      const below = alpha[bottom * columns + left] * (1 - along) + alpha[bottom * columns + right] * along;
      const color = 3 * Math.round(above * (1 - down) + below * down);
      for (let i = 0; i < 3; i++) pixels.data[at++] = ramp[color + i];
      pixels.data[at++] = OPACITY;
    }
  }
  context.putImageData(pixels, 0, 0);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function makeCard(item) {
  const card = element("article", "card");
  const photo = element("div", "photo");
  const image = element("img");
  image.src = `data:image/jpeg;base64,${item.photo}`;
  image.alt = item.words.join(" ");
  image.decoding = "async";
  [image.width, image.height] = item.size;
  photo.append(image);
  const text = element("div");
  const caption = element("p", "caption");
  const looked = element("p", "looked");
  let canvas = null;

  const hide = () => {
    canvas?.remove();
    canvas = null;
    photo.classList.remove("attended");
    caption.querySelector(".on")?.classList.remove("on");
    looked.textContent = "";
  };
  const show = (word, number) => {
    hide();
    canvas = element("canvas");
    [canvas.width, canvas.height] = item.size;
    drawAttention(canvas, item, number);
    photo.append(canvas);
    photo.classList.add("attended");
    word.classList.add("on");
    const highest = weights(item, number).reduce((a, b) => Math.max(a, b), 0) / 255;
    const gate = item.gates ? `, β ${item.gates[number].toFixed(2)}` : "";
    looked.textContent = `up to ${percent(highest * item.peak)} in a cell (scale to ${percent(item.peak)})${gate}`;
  };

  item.words.forEach((said, number) => {
    if (!item.alphas) {
      caption.append(element("span", "word", said), " ");
      return;
    }
    const word = element("button", "word", said);
    word.type = "button";
    word.addEventListener("mouseenter", () => show(word, number));
    word.addEventListener("mouseleave", hide);
    word.addEventListener("focus", () => show(word, number));
    word.addEventListener("click", () => show(word, number));
    word.addEventListener("blur", hide);
    caption.append(word, " ");
  });
  caption.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const words = [...caption.querySelectorAll("button")];
    if (step) words[words.indexOf(document.activeElement) + step]?.focus();
    if (event.key === "Escape") hide();
  });

  const numbers = element("dl", "numbers");
  report.columns.forEach(([, label], i) => {
    numbers.append(element("dt", "", label), element("dd", "", item.scores[i].toFixed(2)));
  });
  const references = element("ul", "references");
  references.append(...item.references.map((said) => element("li", "", said)));
  text.append(caption, looked, numbers);
  card.append(photo, text, references, element("p", "name", item.name));
  return card;
}

function showAll() {
  const found = (item, terms) => terms.every((term) => item.text.includes(term));
  const search = document.getElementById("search");
  const sort = document.getElementById("sort");
  const reverse = document.getElementById("reverse");
  const all = document.getElementById("all");
  const more = document.getElementById("more");
  const count = document.getElementById("count");
  let chosen = [];

  const orders = [["as in the data", (a, b) => a.number - b.number]];
  report.columns.forEach(([, label], i) => orders.push([label, (a, b) => b.scores[i] - a.scores[i]]));
  orders.push(["caption", (a, b) => a.words.join(" ").localeCompare(b.words.join(" "))]);
  orders.push(["length", (a, b) => b.words.length - a.words.length]);
  sort.append(...orders.map(([label], i) => new Option(label, i)));
  report.items.forEach((item, number) => {
    item.number = number;
    item.text = [item.name, item.words.join(" "), ...item.references].join("\n").toLowerCase();
  });

  const extend = () => {
    const next = chosen.slice(all.childElementCount, all.childElementCount + PAGE);
    all.append(...next.map(makeCard));
    more.hidden = all.childElementCount >= chosen.length;
  };
  const refresh = () => {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    chosen = report.items.filter((item) => found(item, terms)).sort(orders[sort.value][1]);
    if (reverse.checked) chosen.reverse();
    count.textContent = `${chosen.length.toLocaleString("en")} of ${report.items.length.toLocaleString("en")} images`;
    all.replaceChildren();
    extend();
  };
  search.addEventListener("input", refresh);
  sort.addEventListener("change", refresh);
  reverse.addEventListener("change", refresh);
  more.addEventListener("click", extend);
  new IntersectionObserver((seen) => {
    if (seen.some((entry) => entry.isIntersecting)) extend();
  }, { rootMargin: "600px" }).observe(more);
  refresh();
}

for (const place of ["best", "worst"]) {
  const cards = report[place].map((number) => makeCard(report.items[number]));
  document.getElementById(place).append(...cards);
}
showAll();
