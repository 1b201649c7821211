/** The ledger as one bar that adds up, how fast it is, how it chooses, and what to look at. */

import { at, fill, make } from "./dom.js";
import { count, lasting, nameOf, percent, plural, time } from "./words.js";

const PARTS = [
  ["rewarded", "reaction seen", "--learned"],
  ["defaulted", "no reaction seen", "--faint"],
  ["not_activated", "left before the greeting", "--edge-strong"],
  ["dropped", "not counted", "--control"],
  ["open", "still there", "--open"],
];

/** Show the ledger: its parts side by side are as long as the whole. */
export function showLedger({ ledger }) {
  const total = ledger.decisions;
  const bar = make(
    "div.stack",
    { role: "img", "aria-label": `${count(total)} decisions: ${PARTS.map(([part, name]) => `${count(ledger[part])} ${name}`).join(", ")}` },
    ...PARTS.filter(([part]) => ledger[part]).map(([part, , what]) => make("div", { set: { "flex-grow": ledger[part], background: `var(${what})` } })),
  );
  const sum = make(
    "p.sum",
    {},
    make("strong", {}, count(total)),
    total === 1 ? " decision" : " decisions",
    ...PARTS.filter(([part], place) => !place || ledger[part]).flatMap(([part, name, what], place) => [
      place ? " + " : " = ",
      make("span.term", {}, make("i", { set: { background: `var(${what})` }, "aria-hidden": "true" }), make("strong", {}, count(ledger[part])), ` ${name}`),
    ]),
  );
  const sides = [
    [ledger.late, "came late"],
    [ledger.unmatched, "matched no greeting"],
    [ledger.dead_letters, "could not be read"],
    [ledger.refused, "not analysed, as no notice was shown"],
  ].filter(([number]) => number);
  if (!total && !sides.length && ledger.balanced) {
    fill(at("ledger"), make("p.empty", {}, "Nothing to account for yet."));
    return;
  }
  fill(
    at("ledger"),
    total ? bar : null,
    sum,
    make(`p.verdict.${ledger.balanced ? "good" : "bad"}`, {}, ledger.balanced ? "✓ It adds up: each greeting has exactly one outcome." : "✗ It does not add up."),
    ledger.problems.length ? make("ul.problems", {}, ...ledger.problems.map((text) => make("li", {}, text))) : null,
    make("p.fine", {}, sides.length ? `Beside it: ${sides.map(([number, name]) => `${count(number)} ${name}`).join(", ")}.` : "Nothing was put aside."),
  );
}

const SPEEDS = {
  to_greeting: ["Picture to greeting", "from the deciding picture in the log to its greeting there"],
  to_showing: ["Picture to screen", "from the shutter to the words on the screen: what a visitor waits"],
  analysis: ["One look", "of the analyser at one picture"],
  to_policy: ["Reaction to learning", "from the last picture of a reaction to a policy that learned from it"],
};

/** Show how fast it is. */
export function showSpeed({ speed, recording }) {
  // What the analyser took was measured while the recording was made; all else are its own times.
  const known = speed.filter((each) => each.count && (!recording || each.name === "analysis"));
  fill(
    at("speed"),
    recording ? make("p.note", {}, "This log has the times of a recording or a simulation: nobody waited for anything here, so they say nothing of this machine’s speed.") : null,
    known.length || recording ? null : make("p.empty", {}, "Measured from the first visitor with a camera on."),
    ...known.map((each) => {
      const [name, what] = SPEEDS[each.name];
      const most = Math.max(...each.bars, 1);
      return make(
        "div.speed",
        {},
        make("p", {}, make("strong", {}, name), " ", make("small", {}, what)),
        make("p.pair", {}, make("b", {}, lasting(each.p50_ms)), " half of the time, ", make("b", {}, lasting(each.p99_ms)), " for the slowest in 100"),
        make(
          "div.bars",
          { role: "img", "aria-label": `${name}: ${lasting(each.p50_ms)} half of the time, ${lasting(each.p99_ms)} at the slowest in 100` },
          ...each.bars.map((number, place) => make("i", { title: `${edge(each, place)}: ${count(number)}`, set: { height: `${(100 * number) / most}%` } })),
        ),
        make("p.ends", { "aria-hidden": "true" }, make("span", {}, "0"), make("span", {}, "0.5 s"), make("span", {}, "2 s"), make("span", {}, "1 min")),
      );
    }),
  );
}

const edge = ({ edges_ms: edges }, place) =>
  place + 1 < edges.length ? `${lasting(edges[place])} to ${lasting(edges[place + 1])}` : `over ${lasting(edges[place])}`;

const WAYS = [
  ["favourite", "its favourite for this visitor", "--learned"],
  ["exploring", "another, to learn more", "--smile"],
  ["control", "the plain one, to compare with", "--control"],
  ["fallback", "the plain one, as nothing could be seen", "--faint"],
];

/** Show how it chooses. */
export function showLearning(summary) {
  const { ways, policies, directives, now_ms: now } = summary;
  const rows = policies.map((policy) =>
    make(
      "li",
      {},
      make("strong", {}, policy.policy_id),
      ` ${policy.role === "serving" ? "decides" : policy.role === "shadow" ? "learns in the shadow" : policy.role}: `,
      `${policy.algorithm}, epoch ${policy.epoch}, version ${count(policy.version)}`,
      policy.learned_at_ms === null ? null : make("small", {}, " learned last ", time(policy.learned_at_ms, now)),
    ),
  );
  const told = directives.slice(0, 4).map((each) =>
    make("li", {}, time(each.at_ms, now), ` ${each.kind} ${each.policy_id}: ${each.reason} `, make("small", {}, `by ${each.by}`)),
  );
  fill(
    at("learning"),
    ways.over
      ? make(
          "div.stack",
          { role: "img", "aria-label": WAYS.map(([way, name]) => `${percent(ways[way] / ways.over)} ${name}`).join(", ") },
          ...WAYS.filter(([way]) => ways[way]).map(([way, , what]) => make("div", { set: { "flex-grow": ways[way], background: `var(${what})` } })),
        )
      : make("p.empty", {}, "Nothing was chosen yet."),
    ways.over
      ? make(
          "ul.key-list",
          {},
          ...WAYS.filter(([way]) => ways[way]).map(([way, name, what]) =>
            make("li", {}, make("i", { set: { background: `var(${what})` }, "aria-hidden": "true" }), make("strong", {}, percent(ways[way] / ways.over)), ` got ${name}`),
          ),
        )
      : null,
    ways.over
      ? make("p.fine", {}, `Of the newest ${plural(ways.over, "decision")}. In force: ${percent(ways.floor)} spread evenly over all greetings, ${percent(ways.control_share)} plain.`)
      : null,
    rows.length ? make("ul.plain", {}, ...rows) : null,
    told.length ? make("h3", {}, "Told from outside") : null,
    told.length ? make("ul.plain", {}, ...told) : null,
  );
}

const KINDS = {
  reward_fell: "Visitors react less warmly than before",
  reward_rose: "Visitors react more warmly than before",
  residual_shifted: "Reactions are no longer what the policy expects",
  shown_other: "A kiosk showed something else than was chosen",
  dead_letters: "Records came that could not be handled",
  budget_used_up: "The day’s budget for looking at pictures is used up",
  analyser_failing: "The service that looks at pictures fails",
};

/** Show what a person should look at. */
export function showAlarms(summary) {
  const { alarms, now_ms: now, greetings } = summary;
  const odd = greetings.filter((greeting) => greeting.not_seen_alarm);
  const items = [
    ...odd.map((greeting) =>
      make("li", {}, make("strong", {}, `${nameOf(greeting.action_id)}: ${percent(greeting.not_seen)} of its reactions are not seen`), make("small", {}, " unlike those of the others: does it make people turn away? What it earns says less than it seems.")),
    ),
    ...alarms.slice(0, 8).map((alarm) =>
      make("li", {}, make("strong", {}, KINDS[alarm.kind] ?? nameOf(alarm.kind)), " ", time(alarm.at_ms, now), make("small", {}, ` ${numbers(alarm)}`)),
    ),
  ];
  const more = summary.alarms_ever - Math.min(8, alarms.length);
  fill(
    at("alarms"),
    items.length ? make("ul.plain.alarms", {}, ...items) : make("p.verdict.good", {}, "✓ Nothing: no alarm was raised, and no greeting loses more reactions than the others."),
    more > 0 ? make("p.fine", {}, `And ${plural(more, "older alarm")}.`) : null,
    make("p.fine", {}, "Alarms come from “pho watch”, which compares what is earned now with what was earned before, and says when pictures or records fail."),
  );
}

function numbers({ numbers: known, detector }) {
  if (known.before !== undefined && known.after !== undefined) {
    return `from ${known.before.toFixed(2)} to ${known.after.toFixed(2)} (${detector})`;
  }
  return detector;
}
