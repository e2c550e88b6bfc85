// Pictures over time, one at a time.

import { make, ranged } from "./elements.js";

/** Draw a slider into a place; it starts at the last picture. */
export function slider(place, spec) {
  const last = spec.frames.length - 1;
  const image = make("img", { alt: spec.alt });
  const output = make("figcaption", { "aria-live": "polite" });
  const show = (number) => {
    const frame = spec.frames[number];
    image.src = frame.src;
    image.alt = `${spec.alt}, ${frame.label}`;
    output.textContent = frame.label;
  };
  const { label, input } = ranged("Time", { min: 0, max: last, value: last }, show);
  const figure = make("figure", {}, image, output);
  place.className = "slider";
  place.replaceChildren(...(last > 0 ? [make("div", { class: "controls" }, label)] : []), figure);
  input.value = last;
  show(last);
}
