// A slice viewer: three planes with a cross-hair, window and level, regions with opacity, boxes of views.

import { cutThrough, outlinePath } from "./boxes.js";
import { make, ranged } from "./elements.js";
import { COLOURS, greys, lay, PLANES, slice, unpack } from "./planes.js";

const LONGEST = 340; // pixels of the longest side on the screen
const STROKES = ["#56b4e9", "#e69f00", "#f0e442", "#cc79a7", "#ffffff"];
const DASHED = ["", "6 3", "2 3", "9 3 2 3", "1 3"];

/** Draw a viewer into a place. */
export function viewer(place, spec) {
  const choice = make("select");
  spec.scenes.forEach((scene, i) => {
    choice.append(make("option", { value: String(i) }, scene.name));
  });
  const stage = make("div");
  const open = async () => {
    place.dataset.ready = "no";
    await show(stage, spec.scenes[Number(choice.value)]);
    place.dataset.ready = choice.value;
  };
  choice.addEventListener("input", open);
  place.className = "viewer";
  place.replaceChildren(make("div", { class: "controls" }, make("label", {}, "Image", choice)), stage);
  open();
}

async function show(stage, scene) {
  const volumes = await Promise.all([scene.image, ...scene.layers.map((each) => each.data)].map(unpack));
  const view = {
    scene,
    image: volumes[0],
    layers: scene.layers.map((each, i) => ({
      ...each,
      regions: volumes[i + 1],
      opacity: each.outlined ? 1 : 0.4,
    })),
    at: scene.shape.map((n) => Math.floor(n / 2)),
    level: 50,
    width: 100,
    boxes: true,
    readout: make("p", { class: "readout", "aria-live": "polite" }),
  };
  view.planes = PLANES[scene.shape.length].map((plane) => panel(view, plane));
  view.draw = () => {
    for (const each of view.planes) paint(view, each);
    view.readout.textContent = reading(view);
  };
  const note = scene.note ? [make("p", { class: "note" }, scene.note)] : [];
  const planes = make("div", { class: "planes" }, ...view.planes.map((each) => each.figure));
  stage.replaceChildren(planes, view.readout, controls(view), swatches(view), ...note);
  view.draw();
}

/** One plane: canvas, marks over it, and its slider. */
function panel(view, plane) {
  const { shape, spacing } = view.scene;
  const [width, height] = [shape[plane.right], shape[plane.up]];
  const lengths = shape.map((n, i) => n * spacing[i]);
  const zoom = LONGEST / Math.max(...lengths);
  const canvas = make("canvas", {
    width,
    height,
    tabindex: "0",
    role: "img",
    "aria-label": `${plane.name} slice`,
  });
  const marks = make("svg", {
    viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  const sized = `width:${lengths[plane.right] * zoom}px;aspect-ratio:${lengths[plane.right]}/${lengths[plane.up]}`;
  const stage = make("div", { class: "stage", style: sized }, canvas, marks, ...letters(view, plane));
  const words = view.scene.body ? plane.name : `${"xyz"[plane.right]}-${"xyz"[plane.up]}`;
  const found = { plane, canvas, marks, width, height };
  const parts = [stage];
  if (plane.across !== null) {
    const last = shape[plane.across] - 1;
    const { label, input } = ranged(words, { min: 0, max: last, value: view.at[plane.across] }, (value) => {
      view.at[plane.across] = value;
      view.draw();
    });
    found.input = input;
    parts.push(make("figcaption", { class: "controls" }, label));
  }
  listen(view, found);
  found.figure = make("figure", { class: "plane", "data-plane": plane.name }, ...parts);
  return found;
}

function letters(view, plane) {
  if (!view.scene.body || !plane.letters) return [];
  return ["left", "right", "top", "bottom"].map((side, i) =>
    make("span", { class: side, "aria-hidden": "true" }, plane.letters[i]),
  );
}

function move(view, axis, by) {
  if (axis === null) return;
  view.at[axis] = Math.max(0, Math.min(view.scene.shape[axis] - 1, view.at[axis] + by));
  view.draw();
}

/** Wheel and page keys scroll; a click, a drag and the arrow keys move the cross-hair. */
function listen(view, { plane, canvas, width, height }) {
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (plane.across === null) return;
      event.preventDefault();
      move(view, plane.across, event.deltaY > 0 ? 1 : -1);
    },
    { passive: false },
  );
  const aim = (event) => {
    const frame = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - frame.left) / frame.width) * width);
    const row = Math.floor(((event.clientY - frame.top) / frame.height) * height);
    view.at[plane.right] = Math.max(0, Math.min(width - 1, column));
    view.at[plane.up] = Math.max(0, Math.min(height - 1, plane.downwards ? row : height - 1 - row));
    view.draw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    aim(event);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && aim(event));
  canvas.addEventListener("keydown", (event) => {
    const upwards = plane.downwards ? -1 : 1;
    const keys = {
      PageUp: [plane.across, 1],
      PageDown: [plane.across, -1],
      ArrowLeft: [plane.right, -1],
      ArrowRight: [plane.right, 1],
      ArrowUp: [plane.up, upwards],
      ArrowDown: [plane.up, -upwards],
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    move(view, ...keys[event.key]);
  });
}

function paint(view, { plane, canvas, marks, width, height, input }) {
  const at = plane.across === null ? 0 : view.at[plane.across];
  const { shape, boxes } = view.scene;
  const half = (view.width / 2 / 100) * 255;
  const level = (view.level / 100) * 255;
  const pixels = greys(slice(view.image, shape, plane, at), level - half, level + half);
  for (const each of view.layers)
    lay(pixels, slice(each.regions, shape, plane, at), width, each.outlined, each.opacity);
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  const [x, y] = [view.at[plane.right] + 0.5, view.at[plane.up] + 0.5];
  const row = plane.downwards ? y : height - y;
  const names = [...new Set(boxes.map((each) => each.name))];
  const drawn = (view.boxes ? boxes : []).map((each) => {
    const k = names.indexOf(each.name) % STROKES.length;
    const d = outlinePath(cutThrough(each.corners, plane, at), height, plane);
    return make("path", { d, stroke: STROKES[k], "stroke-dasharray": DASHED[k] });
  });
  const cross = make("path", { class: "cross", d: `M${x} 0V${height}M0 ${row}H${width}` });
  marks.replaceChildren(...drawn, ...(plane.across === null ? [] : [cross]));
  if (input) input.value = at;
}

/** What lies under the cross-hair. */
function reading(view) {
  const { shape, spacing, classes } = view.scene;
  const index = view.at.reduce((sum, place, axis) => sum * shape[axis] + place, 0);
  const words = [
    `voxel ${view.at.join(", ")} of ${shape.join(" x ")}`,
    `voxel size ${spacing.map((each) => Number(each.toFixed(2))).join(" x ")} mm`,
    `value ${(view.image[index] / 255).toFixed(2)}`,
  ];
  for (const each of view.layers) {
    const number = each.regions[index];
    words.push(`${each.name}: ${number === 0 ? "none" : (classes[number - 1] ?? number)}`);
  }
  return words.join(" · ");
}

function controls(view) {
  const parts = [
    ["Level", "level", 0, 100],
    ["Width", "width", 1, 200],
  ].map(([words, key, min, max]) => {
    return ranged(words, { min, max, value: view[key], "data-control": key }, (value) => {
      view[key] = value;
      view.draw();
    }).label;
  });
  for (const each of view.layers) {
    const attributes = { min: 0, max: 100, value: each.opacity * 100, "data-control": each.name };
    const { label } = ranged(`${each.name} opacity`, attributes, (value) => {
      each.opacity = value / 100;
      view.draw();
    });
    parts.push(label);
  }
  if (view.scene.boxes.length) {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("input", () => {
      view.boxes = box.checked;
      view.draw();
    });
    parts.push(make("label", {}, box, "boxes"));
  }
  return make("div", { class: "controls" }, ...parts);
}

function swatches(view) {
  const { classes, boxes, layers } = view.scene;
  const items = layers.length
    ? classes.map((name, i) => [name, `rgb(${COLOURS[i % COLOURS.length].join(" ")})`])
    : [];
  const named = [...new Set(boxes.map((each) => each.name))];
  items.push(...named.map((name, i) => [name, STROKES[i % STROKES.length]]));
  const drawn = items.map(([name, colour]) =>
    make("span", {}, make("span", { class: "swatch", style: `background:${colour}` }), name),
  );
  const how = layers.filter((each) => each.outlined).map((each) => `${each.name}: outline`);
  how.push(...layers.filter((each) => !each.outlined).map((each) => `${each.name}: filled`));
  return make("p", { class: "note legend" }, ...drawn, how.join(", "));
}
