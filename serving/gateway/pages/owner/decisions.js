/** The newest greetings, each in a line that opens its receipt. */

import { read } from "./api.js";
import { at, make } from "./dom.js";
import { count, inHundred, nameOf, signed, time } from "./words.js";

const NEWEST = 12;
const OLDER = 25;
const RESULTS = {
  open: ["still there", "open"],
  defaulted: ["not seen", "faint"],
  dropped: ["not counted", "faint"],
  not_activated: ["left before", "faint"],
};

const lines = new Map();
let shown = NEWEST;
let before = null;
let loop = null;
let now = 0;
let open = () => {};

/** Prepare the list; `receipt` opens the receipt of an id. */
export function prepareDecisions(receipt) {
  open = receipt;
  at("older").addEventListener("click", more);
}

/** Show the newest, and as many older ones as were asked for. */
export function showDecisions(summary) {
  now = summary.now_ms;
  if (summary.loop_id !== loop) {
    loop = summary.loop_id;
    lines.clear();
    shown = NEWEST;
    at("newest").replaceChildren();
  }
  for (const line of summary.newest) lines.set(line.decision_id, line);
  const newest = summary.newest;
  before ??= newest.length === NEWEST ? newest.at(-1).number : null;
  arrange();
  at("older").hidden = summary.newest.length < NEWEST || before === null;
}

async function more() {
  const button = at("older");
  button.disabled = true;
  try {
    const query = loop === null ? "" : `&loop=${encodeURIComponent(loop)}`;
    const oldest = Math.min(...[...lines.values()].map((line) => line.number));
    const page = await read(`decisions?limit=${OLDER}&before=${oldest}${query}`);
    for (const line of page.decisions) lines.set(line.decision_id, line);
    shown += page.decisions.length;
    before = page.before;
    arrange();
    button.hidden = before === null;
    if (before === null) at("newest").append(make("li.fine", {}, `Only the newest ${count(page.kept)} are kept here; the log has all.`));
  } finally {
    button.disabled = false;
  }
}

/** Put the lines in order; what is there already stays, so that nobody loses the focus. */
function arrange() {
  const list = at("newest");
  const sorted = [...lines.values()].sort((one, other) => other.number - one.number);
  for (const line of sorted.splice(shown)) lines.delete(line.decision_id);
  const old = new Map([...list.children].map((item) => [item.dataset.id, item]));
  let place = list.firstChild;
  for (const line of sorted) {
    const item = itemOf(line, old.get(line.decision_id));
    old.delete(line.decision_id);
    if (item === place) place = place.nextSibling;
    else list.insertBefore(item, place);
  }
  for (const item of old.values()) item.remove();
  if (!sorted.length) list.replaceChildren(make("li.empty", {}, "The first greeting appears here by itself."));
}

function itemOf(line, known) {
  const state = JSON.stringify([line.result, line.happiness_after, line.reward]);
  if (known?.dataset.state === state) return known;
  const button = known?.querySelector("button") ?? make("button.decision", { type: "button", on: () => open(line.decision_id) });
  button.replaceChildren(...inside(line));
  if (known) {
    known.dataset.state = state;
    return known;
  }
  return make("li", { "data-id": line.decision_id, "data-state": state }, button);
}

function inside(line) {
  const [words, look] = RESULTS[line.result] ?? outcome(line);
  return [
    make("span.when", {}, time(line.decided_at_ms, now, true), line.kiosk_id ? make("small", {}, line.kiosk_id) : null),
    make("span.what", {}, make("strong", {}, nameOf(line.action_id)), make("small", {}, line.control ? "the plain one, to compare with" : line.text)),
    make("span.faces", {}, face(line.happiness_before, "before"), make("span.arrow", { "aria-hidden": "true" }, "→"), face(line.happiness_after, "after")),
    make(`span.result.${look}`, {}, words),
  ];
}

function outcome(line) {
  if (line.happiness_after !== null && line.happiness_after >= 0.5) return [`smiled ${signed(line.reward)}`, "smile"];
  return [signed(line.reward ?? 0), "rested"];
}

/** A face that smiles as much as was seen: drawn, and told in words. */
export function face(happiness, when) {
  const said = happiness === null ? `${when}: not seen` : `${when}: ${inHundred(happiness)} in 100 happy`;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const part = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    svg.append(element);
  };
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", happiness === null ? "face unseen" : happiness >= 0.5 ? "face happy" : "face");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", said);
  part("circle", { cx: 12, cy: 12, r: 10.5, class: "skin" });
  if (happiness !== null) {
    const curve = 15.2 + (happiness - 0.25) * 6;
    part("circle", { cx: 8.4, cy: 9.6, r: 1.25, class: "dot" });
    part("circle", { cx: 15.6, cy: 9.6, r: 1.25, class: "dot" });
    part("path", { d: `M7.4 15 Q12 ${curve.toFixed(1)} 16.6 15`, class: "mouth" });
  }
  return svg;
}
