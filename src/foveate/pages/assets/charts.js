// Line charts: curves, axes, a legend whose names hide curves, and values under the pointer or the arrow keys.

import { make, spoken } from "./elements.js";

const WIDE = 640;
const HIGH = 270;
const INSET = { left: 62, right: 14, top: 12, bottom: 40 };
const APART = 7; // pixels between the intervals of two curves at the same place
const FEW = 8; // places on an axis that are all named
const DASHES = ["", "7 4", "2 3", "10 3 2 3", "5 2", "12 5", "1 4", "8 2 2 2 2 2"];

/** Draw a chart into a place. */
export function chart(place, spec) {
  const high = spec.square ? WIDE : HIGH;
  const svg = make("svg", {
    viewBox: `0 0 ${WIDE} ${high}`,
    role: "img",
    tabindex: "0",
    "aria-label": described(spec),
  });
  const state = { spec, svg, high, hidden: new Set(), log: false, at: null };
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  state.redraw = () => {
    state.scales = scalesOf(state);
    svg.replaceChildren(...axes(state), ...state.spec.series.flatMap((each, i) => curve(state, each, i)));
    point(state, readout);
  };
  svg.addEventListener("pointermove", (event) => followPointer(state, event, readout));
  svg.addEventListener("keydown", (event) => step(state, event, readout));
  place.className = spec.square ? "chart square" : "chart";
  place.replaceChildren(make("h3", {}, spec.label), svg, readout, legend(state));
  state.redraw();
}

function described(spec) {
  const ends = spec.series.map((each) => {
    const last = each.y.findLast((value) => value !== null);
    return `${each.name} ends at ${spoken(last)}`;
  });
  return `${spec.label}, over ${spec.x}: ${ends.join("; ")}`;
}

function shownSeries(state) {
  return state.spec.series.filter((_, i) => !state.hidden.has(i));
}

function hasIntervals(state) {
  return shownSeries(state).some((each) => each.low);
}

/** How far a curve is moved aside, so that intervals of several stand side by side. */
function aside(state, series) {
  if (!hasIntervals(state)) return 0;
  const shown = shownSeries(state);
  return (shown.indexOf(series) - (shown.length - 1) / 2) * APART;
}

/** Number of a curve's colour and dashes, the same in all charts that show it. */
function look(series, i) {
  return (series.colour ?? i) % DASHES.length;
}

function scalesOf(state) {
  const { spec, high, log } = state;
  const series = shownSeries(state);
  const room = hasIntervals(state) ? (series.length * APART) / 2 : 0;
  const xs = spec.square ? [0, 1] : series.flatMap((each) => each.x);
  const ys = spec.square
    ? [0, 1]
    : series.flatMap((each) => [...each.y, ...(each.low ?? []), ...(each.high ?? [])]);
  const x = scale(xs, INSET.left + room, WIDE - INSET.right - room, spec.logX);
  const places = [...new Set(xs)].filter((value) => x.at(value) !== null);
  if (spec.logX && places.length <= FEW) x.ticks = places; // such as numbers of labels: 1, 3, 8
  return {
    x,
    y: scale(ys, high - INSET.bottom, INSET.top, log),
  };
}

/** From numbers to pixels. */
function scale(values, first, last, log) {
  const change = log ? Math.log10 : (value) => value;
  const known = values.filter((value) => value !== null && (!log || value > 0));
  let low = known.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  let high = known.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  if (!known.length) [low, high] = log ? [1, 10] : [0, 1];
  if (low === high)
    [low, high] = log
      ? [low / 2, high * 2]
      : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const span = change(high) - change(low);
  const at = (value) =>
    value === null || (log && value <= 0)
      ? null
      : first + ((change(value) - change(low)) / span) * (last - first);
  const back = (pixel) => {
    const value = change(low) + ((pixel - first) / (last - first)) * span;
    return log ? 10 ** value : value;
  };
  return { at, back, ticks: log ? powers(low, high) : ticks(low, high) };
}

function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  const found = [];
  for (let i = Math.ceil(low / size); i * size <= high * (1 + 1e-9); i++) found.push(i * size);
  return found;
}

function powers(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const each of [1, 2, 5]) {
      const value = each * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found.length > 9 ? found.filter((value) => Number.isInteger(Math.log10(value))) : found;
}

function axes({ spec, high, scales }) {
  const bottom = high - INSET.bottom;
  const parts = [];
  for (const value of scales.y.ticks) {
    const y = scales.y.at(value);
    parts.push(make("line", { class: "axis", x1: INSET.left, x2: WIDE - INSET.right, y1: y, y2: y }));
    parts.push(make("text", { x: INSET.left - 6, y: y + 4, "text-anchor": "end" }, spoken(value)));
  }
  for (const value of scales.x.ticks) {
    const x = scales.x.at(value);
    parts.push(make("line", { class: "axis", x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
    parts.push(make("text", { x, y: bottom + 17, "text-anchor": "middle" }, spoken(value)));
  }
  parts.push(make("text", { x: (WIDE + INSET.left) / 2, y: high - 5, "text-anchor": "middle" }, spec.x));
  if (spec.y) {
    const turned = `rotate(-90 12 ${bottom / 2})`;
    parts.push(make("text", { x: 12, y: bottom / 2, transform: turned, "text-anchor": "middle" }, spec.y));
  }
  return parts;
}

function curve(state, series, i) {
  if (state.hidden.has(i)) return [];
  const { x, y } = state.scales;
  const number = look(series, i);
  const colour = `var(--s${number})`;
  const shift = aside(state, series);
  const points = series.x
    .map((value, k) => [x.at(value), y.at(series.y[k])])
    .map(([px, py]) => (px === null || py === null ? [null, null] : [px + shift, py]));
  const parts = [
    make("path", {
      class: "curve",
      d: pathOf(points),
      stroke: colour,
      "stroke-dasharray": DASHES[number],
    }),
  ];
  if (series.low) {
    const ends = points.map(([px], k) => [px, y.at(series.low[k]), y.at(series.high[k])]);
    const reach = ends.filter((each) => !each.includes(null)).map(([px, a, b]) => `M${px} ${a}V${b}`);
    parts.push(make("path", { class: "reach", d: reach.join(""), stroke: colour }));
  }
  if (state.spec.dots) {
    const known = points.filter(([, py]) => py !== null);
    const dots = known.map(([px, py]) => `M${px - 3} ${py}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`);
    parts.push(make("path", { d: dots.join(""), fill: colour }));
  }
  return parts;
}

function pathOf(points) {
  let pen = "M";
  let text = "";
  for (const [x, y] of points) {
    if (x === null || y === null) {
      pen = "M";
      continue;
    }
    text += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return text;
}

function legend(state) {
  const buttons = state.spec.series.map((series, i) => {
    const number = look(series, i);
    const line = make("line", {
      x1: 0,
      x2: 26,
      y1: 5,
      y2: 5,
      stroke: `var(--s${number})`,
      "stroke-width": 2.5,
      "stroke-dasharray": DASHES[number],
    });
    const sample = make("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, line);
    const button = make("button", { type: "button", "aria-pressed": "true" }, sample, series.name);
    button.addEventListener("click", () => {
      if (!state.hidden.delete(i)) state.hidden.add(i);
      button.setAttribute("aria-pressed", String(!state.hidden.has(i)));
      state.redraw();
    });
    return button;
  });
  if (state.spec.log) buttons.push(logarithmic(state));
  return make("div", { class: "legend controls" }, ...buttons);
}

function logarithmic(state) {
  const button = make("button", { type: "button", "aria-pressed": "false" }, "logarithmic");
  button.style.textDecoration = "none";
  button.addEventListener("click", () => {
    state.log = !state.log;
    button.setAttribute("aria-pressed", String(state.log));
    state.redraw();
  });
  return button;
}

function followPointer(state, event, readout) {
  const frame = state.svg.getBoundingClientRect();
  const pixel = ((event.clientX - frame.left) / frame.width) * WIDE;
  state.at = nearest(everyX(state), state.scales.x.back(pixel));
  point(state, readout);
}

function step(state, event, readout) {
  const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: 20, PageUp: -20, Home: -1e9, End: 1e9 };
  const move = moves[event.key];
  if (move === undefined) return;
  event.preventDefault();
  const xs = everyX(state);
  const now = state.at === null ? -1 : xs.indexOf(state.at);
  state.at = xs[Math.max(0, Math.min(xs.length - 1, now + move))] ?? null;
  point(state, readout);
}

function everyX(state) {
  return [...new Set(shownSeries(state).flatMap((each) => each.x))].sort((a, b) => a - b);
}

function nearest(sorted, value) {
  let best = null;
  for (const each of sorted)
    if (best === null || Math.abs(each - value) < Math.abs(best - value)) best = each;
  return best;
}

/** Say what the curves are at the chosen place, and mark it. */
function point(state, readout) {
  for (const old of state.svg.querySelectorAll(".mark")) old.remove();
  if (state.at === null) {
    readout.textContent = "";
    return;
  }
  const { x, y } = state.scales;
  const at = x.at(state.at);
  const words = [`${state.spec.x} ${spoken(state.at)}`];
  state.svg.append(
    make("line", { class: "pointer mark", x1: at, x2: at, y1: INSET.top, y2: state.high - INSET.bottom }),
  );
  state.spec.series.forEach((series, i) => {
    if (state.hidden.has(i)) return;
    const k = series.x.indexOf(nearest(series.x, state.at));
    const reach = series.low ? ` (${spoken(series.low[k])} to ${spoken(series.high[k])})` : "";
    words.push(`${series.name} ${spoken(series.y[k])}${reach}`);
    const [px, py] = [x.at(series.x[k] ?? null), y.at(series.y[k] ?? null)];
    if (px !== null && py !== null)
      state.svg.append(
        make("circle", {
          class: "mark",
          cx: px + aside(state, series),
          cy: py,
          r: 4,
          fill: `var(--s${look(series, i)})`,
        }),
      );
  });
  readout.textContent = words.join(" · ");
}
