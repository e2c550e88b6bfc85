// Elements, and what a pointer or a key is on.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "path", "line", "circle", "text", "g", "rect"]);

/** An element with attributes and children; text is never read as markup. */
export function make(tag, attributes = {}, ...children) {
  const element = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A number for people: five digits at most. */
export function spoken(value) {
  if (value === null || value === undefined) return "none";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(5)));
}

/** A range slider under a label. */
export function ranged(words, attributes, changed) {
  const input = make("input", { type: "range", ...attributes });
  input.addEventListener("input", () => changed(Number(input.value)));
  const label = make("label", {}, words, input);
  return { label, input };
}
