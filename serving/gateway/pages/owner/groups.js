/** For whom: a table whose cells are coloured by what the greeting earns there. */

import { at, fill, make, say } from "./dom.js";
import { sorted } from "./greetings.js";
import { count, measure, nameOf, tells } from "./words.js";

let by = null;
let again = () => {};

/** Prepare the choice of groups; `redraw` is called when another is chosen. */
export function prepareGroups(redraw) {
  again = redraw;
  at("by").addEventListener("change", (event) => {
    by = event.target.value;
    again();
  });
}

/** Show the groups. */
export function showGroups(summary, name) {
  const what = measure(name, summary);
  const known = summary.slices;
  if (!known.some((slices) => slices.by === by)) by = known[0]?.by ?? null;
  const select = at("by");
  fill(select, ...known.map((slices) => make("option", { value: slices.by }, slices.title)));
  select.value = by;
  const slices = known.find((each) => each.by === by);
  if (!slices) {
    fill(at("groups"), make("p.empty", {}, "Who smiles at what shows after the first visitors."));
    say(at("groups-more"), "");
    return;
  }
  fill(at("groups"), heat(summary, slices, name, what));
  say(
    at("groups-more"),
    `${what.title.charAt(0).toUpperCase()}${what.title.slice(1)}. ★ earns most in its column so far. ` +
      "Pale cells with a small number rest on too few visits to say. Each interval holds by itself: among many cells one or two mislead.",
  );
}

function heat(summary, slices, name, what) {
  const cells = new Map(slices.cells.map((cell) => [`${cell.group}\n${cell.action_id}`, cell]));
  const greetings = sorted(summary, name).filter((greeting) => greeting.given);
  const best = new Map();
  let low = Infinity;
  let high = -Infinity;
  for (const cell of slices.cells) {
    if (!tells(cell[name], what)) continue;
    low = Math.min(low, cell[name].value);
    high = Math.max(high, cell[name].value);
    const leader = best.get(cell.group);
    if (!leader || cell[name].value > leader[name].value) best.set(cell.group, cell);
  }
  const head = make("tr", {}, make("td", {}), ...slices.groups.map((group) => make("th", { scope: "col" }, ...broken(group))));
  const rows = greetings.map((greeting) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, nameOf(greeting.action_id)),
      ...slices.groups.map((group) => cellOf(cells.get(`${group}\n${greeting.action_id}`), name, what, { low, high, best })),
    ),
  );
  return make(
    "table.heat",
    {},
    make("caption.only-heard", {}, `${what.title}, by greeting and ${slices.title.toLowerCase()}`),
    make("thead", {}, head),
    make("tbody", {}, ...rows),
  );
}

/** "at rest, morning" in two lines. */
const broken = (group) =>
  group.split(", ").flatMap((part, place) => {
    const words = part.replace("afternoon", "after\u00adnoon");
    return place ? [make("br"), words] : [words];
  });

function cellOf(cell, name, what, { low, high, best }) {
  if (!cell) return make("td.none", {}, make("span.only-heard", {}, "nobody"));
  const mean = cell[name];
  const said = `${what.text(mean.value)} (${what.range(mean)}) over ${count(mean.n)} visits`;
  if (!tells(mean, what)) {
    return make("td.early", { title: `${said}: too early to say` }, what.text(mean.value), make("span.only-heard", {}, " too early to say"));
  }
  const share = high > low ? (mean.value - low) / (high - low) : 0.5;
  const leads = best.get(cell.group) === cell;
  return make(
    "td",
    { title: said, "data-leads": leads, set: { "--heat": `${Math.round(share * 100)}%` } },
    what.text(mean.value),
    leads ? make("span.star", { "aria-label": "earns most" }, "★") : null,
  );
}
