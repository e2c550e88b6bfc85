// Tables that are sorted and filtered; a page of rows at a time, so that the document stays small.

import { make, spoken } from "./elements.js";

const ROWS = 25;

/** Draw a table into a place. */
export function table(place, spec) {
  const state = {
    spec,
    sort: spec.sort,
    falling: spec.falling,
    page: 0,
    words: "",
    column: "",
    low: null,
    high: null,
  };
  const body = make("tbody");
  const count = make("p", { class: "readout", "aria-live": "polite" });
  const heads = spec.columns.map((name, i) => head(state, name, i));
  state.draw = () => {
    const rows = sorted(
      state,
      spec.rows.filter((row) => wanted(state, row)),
    );
    const pages = Math.max(1, Math.ceil(rows.length / ROWS));
    state.page = Math.min(Math.max(0, state.page), pages - 1);
    const first = state.page * ROWS;
    body.replaceChildren(...rows.slice(first, first + ROWS).map((row) => line(spec, row)));
    const shown = rows.length ? `${first + 1} to ${Math.min(rows.length, first + ROWS)}` : "none";
    count.textContent = `${shown} of ${rows.length} rows, ${spec.rows.length} in all`;
    heads.forEach((cell, i) => {
      const way = state.falling ? "descending" : "ascending";
      cell.setAttribute("aria-sort", i === state.sort ? way : "none");
    });
  };
  const drawn = make(
    "table",
    {},
    make("caption", {}, spec.label),
    make("thead", {}, make("tr", {}, ...heads)),
    body,
  );
  const wide = make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": spec.label }, drawn);
  place.replaceChildren(filters(state), wide, count, pager(state));
  state.draw();
}

function head(state, name, i) {
  const button = make("button", { type: "button" }, name);
  button.addEventListener("click", () => {
    state.falling = state.sort === i ? !state.falling : false;
    state.sort = i;
    state.page = 0;
    state.draw();
  });
  return make("th", { scope: "col" }, button);
}

function line(spec, row) {
  const cells = row.map((value, i) => {
    const text = value === null ? "–" : spec.numbers[i] ? spoken(value) : value;
    return make("td", spec.numbers[i] ? { class: "n" } : {}, text);
  });
  return make("tr", {}, ...cells);
}

function wanted(state, row) {
  const text = row
    .filter((_, i) => !state.spec.numbers[i])
    .join(" ")
    .toLowerCase();
  if (state.words && !text.includes(state.words)) return false;
  if (state.column === "" || (state.low === null && state.high === null)) return true;
  const value = row[Number(state.column)];
  if (value === null) return false;
  return (state.low === null || value >= state.low) && (state.high === null || value <= state.high);
}

/** In the chosen order; what has no value comes last, whichever it is. */
function sorted(state, rows) {
  const i = state.sort;
  const way = state.falling ? -1 : 1;
  return rows.sort((a, b) => {
    if (a[i] === null || b[i] === null) return (a[i] === null) - (b[i] === null);
    if (state.spec.numbers[i]) return way * (a[i] - b[i]);
    return way * String(a[i]).localeCompare(String(b[i]));
  });
}

function filters(state) {
  const search = make("input", { type: "search" });
  const select = make("select", {}, make("option", { value: "" }, "any column"));
  state.spec.columns.forEach((name, i) => {
    if (state.spec.numbers[i]) select.append(make("option", { value: String(i) }, name));
  });
  const bounds = ["from", "to"].map(() => make("input", { type: "text", inputmode: "decimal", size: "6" }));
  const read = () => {
    const [low, high] = bounds.map((each) => (each.value.trim() === "" ? null : Number(each.value)));
    const words = search.value.trim().toLowerCase();
    Object.assign(state, { words, column: select.value, low, high, page: 0 });
    state.draw();
  };
  for (const each of [search, select, ...bounds]) each.addEventListener("input", read);
  const parts = [make("label", {}, "Text", search)];
  if (select.options.length > 1) {
    parts.push(make("label", {}, "Only where", select));
    parts.push(make("label", {}, "from", bounds[0]), make("label", {}, "to", bounds[1]));
  }
  return make("div", { class: "controls" }, ...parts);
}

function pager(state) {
  if (state.spec.rows.length <= ROWS) return "";
  const buttons = [
    ["Previous", -1],
    ["Next", 1],
  ].map(([words, move]) => {
    const button = make("button", { type: "button" }, words);
    button.addEventListener("click", () => {
      state.page += move;
      state.draw();
    });
    return button;
  });
  return make("div", { class: "controls" }, ...buttons);
}
