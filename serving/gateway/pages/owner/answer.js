/** The answer that stands first: in a sentence, how sure it is, and a few facts. */

import { at, fill, make, say } from "./dom.js";
import { count, inHundred, measure, percent, plural, signed } from "./words.js";

/** Tell the answer of a measure. */
export function showAnswer(summary, name) {
  const what = measure(name, summary);
  const told = summary[name];
  const said = name === "smile" ? smiles(told, summary) : rewards(told, summary, what);
  say(at("answer-title"), said.title);
  say(at("answer-more"), said.more);
  say(at("answer-sure"), said.sure);
  at("answer").dataset.verdict = told.verdict;
  ruler(told, name === "smile" ? (value) => signed(value * 100, 0) : (value) => what.text(value));
  facts(summary);
}

const more = (number, which) =>
  number === 1 ? `One ${which === "more" ? "more" : "less"} visitor in 100 smiles` : `${number} ${which} visitors in 100 smile`;

function smiles(told, summary) {
  const nothing = without(told, summary);
  if (nothing) return nothing;
  const { lift, learned, control } = told;
  const by = Math.abs(Math.round(lift.value * 100));
  const seen =
    `${inHundred(learned.value)} in 100 smile after a greeting that PHO chose, ` +
    `${inHundred(control.value)} in 100 after the plain one.`;
  const from = Math.round(lift.low * 100);
  const to = Math.round(lift.high * 100);
  const sure = "This holds 95 times in 100, however often you look.";
  switch (told.verdict) {
    case "more":
      return {
        title: `${more(by, "more")} with what PHO learned`,
        more: `${seen} Allowing for who happened to come, the difference is ${from} to ${to} in 100.`,
        sure,
      };
    case "fewer":
      return {
        title: `${more(by, "fewer")} with what PHO chose`,
        more: `${seen} Allowing for who happened to come, the difference is ${-to} to ${-from} in 100. ` +
          "The plain greeting does better: look at what is said, and to whom.",
        sure,
      };
    default:
      return {
        title: "Too early to say whether PHO’s choices bring more smiles",
        more: `${seen} The difference may be anything from ${fewerOrMore(from)} to ${fewerOrMore(to)} in 100.`,
        sure: `${needed(told)}${sure}`,
      };
  }
}

const fewerOrMore = (number) => (number < 0 ? `${-number} fewer` : `${number} more`);

function rewards(told, summary, what) {
  const nothing = without(told, summary);
  if (nothing) return nothing;
  const { lift, learned, control } = told;
  const noun = summary.sees_faces ? "happiness" : "reward";
  const seen =
    `A greeting that PHO chose earns ${what.text(learned.value)} ${noun} a visit, ` +
    `the plain one ${what.text(control.value)}.`;
  const sure =
    (summary.sees_faces ? "Happiness runs from 0 to 1; earned is what is there after less what was there before. " : "") +
    "The interval holds 95 times in 100, however often you look.";
  if (told.verdict === "early") {
    return {
      title: `Too early to say whether PHO’s choices earn more ${noun}`,
      more: `${seen} The difference may be anything from ${what.range(lift)}.`,
      sure: `${needed(told)}${sure}`,
    };
  }
  const isMore = told.verdict === "more";
  return {
    title: `Each visit earns ${Math.abs(lift.value).toFixed(2)} ${isMore ? "more" : "less"} ${noun} with what PHO ${isMore ? "learned" : "chose"}`,
    more: `${seen} Allowing for who happened to come, the difference is ${what.range(lift)}.`,
    sure,
  };
}

function without(told, summary) {
  if (told.verdict === "no_visits") {
    if (summary.visits) {
      return { title: "The first visitors are here", more: "What became of their greetings is known in a minute.", sure: "" };
    }
    return {
      title: "Nobody was greeted yet",
      more: "Open the kiosk’s page on the tablet at the door and touch Start. The first visitor appears here by itself.",
      sure: "",
    };
  }
  if (told.verdict === "no_control") {
    return {
      title: "Nothing to compare with yet",
      more: "What PHO’s choices are worth shows beside visitors who get the plain greeting whatever was learned; so far there were none.",
      sure: "Their share is the setting control_share of the loop.",
    };
  }
  return null;
}

const needed = (told) =>
  told.needed === null ? "" : `About ${count(roughly(told.needed))} more visitors will narrow it well. `;

function roughly(number) {
  const step = 10 ** Math.max(1, Math.floor(Math.log10(number)));
  return Math.max(step, Math.round(number / step) * step);
}

/** A line with zero, the interval, and the estimate on it. */
function ruler(told, text) {
  const place = at("answer-ruler");
  place.hidden = !told.lift;
  if (!told.lift) return;
  const { value, low, high } = told.lift;
  const most = Math.max(Math.abs(low), Math.abs(high)) * 1.15 || 1;
  const least = low < 0 ? -most : -0.12 * most;
  const where = (number) => `${(100 * (number - least)) / (most - least)}%`;
  fill(
    place,
    make("div.line", {}),
    make("div.zero", { set: { left: where(0) } }, make("span", {}, "no difference")),
    make("div.reach", { set: { left: where(low), width: `${(100 * (high - low)) / (most - least)}%` } }),
    make("div.point", { set: { left: where(value) } }, make("span", {}, text(value))),
    make("div.end", { set: { left: where(low) } }, make("span", {}, text(low))),
    make("div.end", { set: { left: where(high) } }, make("span", {}, text(high))),
  );
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", `The difference is ${text(value)}, somewhere from ${text(low)} to ${text(high)}`);
}

function facts(summary) {
  const { hour, smile, ledger, visits } = summary;
  const ways = summary.ways;
  const pairs = [
    ["greeted", count(visits), visits ? plural(summary.judged, "reaction") + " judged" : ""],
    [hour.live ? "in the last hour" : "in the log’s last hour", count(hour.visits), plural(hour.smiles, "smile")],
  ];
  if (smile.learned) pairs.push(["smile after a chosen greeting", `${inHundred(smile.learned.value)} in 100`, ""]);
  if (smile.control) pairs.push(["after the plain greeting", `${inHundred(smile.control.value)} in 100`, ""]);
  if (ways.over) pairs.push(["of the newest tried another", percent(ways.exploring / ways.over), "to learn more"]);
  pairs.push(["the ledger", ledger.balanced ? "adds up" : "does not add up", ""]);
  fill(
    at("facts"),
    ...pairs.map(([name, value, more]) =>
      make("div", { "data-bad": name === "the ledger" && !ledger.balanced }, make("dt", {}, name, more ? make("small", {}, more) : null), make("dd", {}, value)),
    ),
  );
}
