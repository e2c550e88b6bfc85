// Everything on the page that a script draws, and its theme.

import { chart } from "./charts.js";
import { make } from "./elements.js";
import { follow } from "./live.js";
import { slider } from "./slider.js";
import { table } from "./tables.js";
import { viewer } from "./viewer.js";

const KINDS = { chart, slider, table, viewer, theme };
const THEMES = ["system", "light", "dark"];

function theme(place) {
  const button = make("button", { type: "button" });
  let number = 0;
  const show = () => {
    document.documentElement.dataset.theme = THEMES[number];
    button.textContent = `Theme: ${THEMES[number]}`;
  };
  button.addEventListener("click", () => {
    number = (number + 1) % THEMES.length;
    show();
  });
  place.replaceChildren(button);
  show();
}

/** Draw all widgets below an element. */
function start(root, data) {
  for (const place of root.querySelectorAll("[data-widget]")) {
    KINDS[place.dataset.kind](place, data[place.dataset.widget]);
  }
}

function dataOf(page) {
  return JSON.parse(page.querySelector("#data").textContent);
}

start(document.body, dataOf(document));
window.addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
if ("live" in document.documentElement.dataset) {
  follow((page) => {
    const main = page.querySelector("main");
    document.querySelector("main").replaceWith(main);
    start(main, dataOf(page));
  });
}
