/** One decision as a story: what was seen, the odds, the greeting, the reaction, what was learned. */

import { read } from "./api.js";
import { face } from "./decisions.js";
import { at, fill, make } from "./dom.js";
import { inHundred, lasting, nameOf, percent, signed, time } from "./words.js";

const dialog = at("receipt");
let asked = 0;

/** Prepare the dialog: its buttons, and addresses such as #receipt=visit-7. */
export function prepareReceipts() {
  at("receipt-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    asked += 1;
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  });
  addEventListener("hashchange", openNamed);
}

/** Open the receipt that the address names, if it names one. */
export function openNamed() {
  const found = /^#receipt=(.+)$/.exec(location.hash);
  if (found) openReceipt(decodeURIComponent(found[1]));
  else if (dialog.open) dialog.close();
}

/** Open the receipt of a decision. */
export async function openReceipt(id) {
  const mine = ++asked;
  const hash = `#receipt=${encodeURIComponent(id)}`;
  if (location.hash !== hash) history.replaceState(null, "", hash);
  fill(at("receipt-story"), make("p.empty", { role: "status" }, "Reading it back from the log …"));
  if (!dialog.open) dialog.showModal();
  at("receipt-title").focus();
  let story;
  try {
    const path = id.split("/").map(encodeURIComponent).join("/");
    story = tell(await read(`receipts/${path}`));
  } catch (error) {
    story = [make("p.note", { role: "alert" }, `${error.message}. `, error.cure ?? "")];
  }
  if (mine !== asked) return;
  fill(at("receipt-story"), ...story);
  dialog.scrollTop = 0;
}

function tell(receipt) {
  const now = Date.now();
  return [
    make("p.fine", {}, make("code", {}, receipt.decision_id), " ", time(receipt.chosen.decided_at_ms, now, true), ` in the loop ${receipt.loop_id}`),
    make("ol.story", {}, seen(receipt), odds(receipt), said(receipt, now), reacted(receipt), learned(receipt)),
    receipt.put_aside.length
      ? make("p.note", {}, "Put aside: ", receipt.put_aside.map((side) => `${side.stream}: ${side.error}`).join("; "))
      : null,
    make("p.fine", {}, "The same on the gateway’s machine: ", make("code", {}, `pho receipt ${receipt.decision_id}`)),
  ];
}

const step = (title, ...children) => make("li", {}, make("h3", {}, title), ...children);

function seen({ known }) {
  const features = Object.entries(known.features).filter(([name, value]) => value && name !== "bias" && !name.includes(":"));
  const before = known.happiness_before;
  return step(
    "What was seen",
    make(
      "div.moment",
      {},
      face(before, "before"),
      make(
        "p",
        {},
        before === null ? "No face could be read before the greeting." : `The face was ${inHundred(before)} in 100 happy`,
        before === null ? null : make("small", {}, ` the detector was ${percent(known.confidence_before)} sure that it is a face`),
      ),
    ),
    features.length
      ? make("ul.chips", {}, ...features.map(([name, value]) => make("li", {}, `${name.replace(/^(daypart|attribute|label)\./, "")}${value === 1 ? "" : ` ${value.toFixed(2)}`}`)))
      : null,
  );
}

function odds({ offered, chosen, why }) {
  const most = Math.max(...offered.map((each) => each.probability));
  const rows = [...offered]
    .sort((one, other) => other.probability - one.probability)
    .map((each) =>
      make(
        "li",
        { "data-chosen": each.action === chosen.action, "data-out": !each.eligible },
        make("span.name", {}, nameOf(each.action), each.action === chosen.baseline ? make("small", {}, " the plain one") : null),
        make("span.track", { "aria-hidden": "true" }, make("i", { set: { width: `${(100 * each.probability) / most}%` } })),
        make("span.number", {}, each.eligible ? percent(each.probability) : "not offered"),
      ),
    );
  const how =
    chosen.mode === "fallback"
      ? "Nothing could be seen, so the plain greeting was given; nothing is learned from it."
      : chosen.control
        ? `The draw fell into the ${percent(chosen.control_share)} that get the plain greeting whatever is known, to compare with.`
        : `The draw took ${nameOf(chosen.action)}, which had ${percent(chosen.propensity)}. ${percent(chosen.floor)} are spread evenly over all greetings, so that every one keeps a chance.`;
  return step(
    "The odds",
    make("ul.odds", {}, ...rows),
    make("p", {}, how),
    make("p.fine", {}, `${why.text} Policy ${chosen.policy}${chosen.algorithm ? ` (${chosen.algorithm})` : ""}, epoch ${chosen.epoch}, version ${chosen.version}.`),
    why.expected.length ? reasons(why.expected) : null,
  );
}

function reasons(expected) {
  return make(
    "details",
    {},
    make("summary", {}, "Why it expected that"),
    ...expected.map((each) =>
      make(
        "div",
        {},
        make("p", {}, make("strong", {}, nameOf(each.action)), ` ${signed(each.mean, 3)} ± ${each.deviation.toFixed(3)}, made of`),
        make("ul.plain.fine", {}, ...each.contributions.map((part) => make("li", {}, `${part.feature} ${part.value.toFixed(2)} × ${signed(part.weight, 3)} = ${signed(part.contribution, 3)}`))),
      ),
    ),
  );
}

function said({ chosen, shown, known }, now) {
  if (!shown) return step("The greeting", make("p", {}, "It was not shown."));
  const waited = known.captured_at_ms === null ? null : shown.at_ms - known.captured_at_ms;
  return step(
    "The greeting",
    make("blockquote", { lang: chosen.language }, shown.fallback ? "The kiosk’s own plain greeting" : chosen.text),
    make("p.fine", {}, "Shown ", time(shown.at_ms, now, true), waited === null || waited < 0 ? "." : `, ${lasting(waited)} after the picture.`),
  );
}

function reacted({ reactions, reward, known, shown, visit_ended: ended }) {
  const since = shown?.at_ms ?? null;
  const after = (ms) => (since === null ? "" : `${((ms - since) / 1_000).toFixed(1)} s after it was shown`);
  const rows = reactions.map((each) =>
    make(
      "li",
      {},
      each.kind === "post" ? face(each.value, "after") : make("span.gift", { "aria-hidden": "true" }, "★"),
      make(
        "p",
        {},
        each.kind === "post" ? `${inHundred(each.value)} in 100 happy` : `An explicit reward of ${each.value}`,
        make("small", {}, ` ${after(each.at_ms)}${each.counted ? "" : `; does not count: ${each.why}`}`),
      ),
    ),
  );
  return step(
    "The reaction",
    rows.length ? make("ul.moments", {}, ...rows) : make("p", {}, reward ? "None was seen." : "Not known yet."),
    ended ? make("p.fine", {}, `The visit ended (${ended.reason.replace("_", " ")})${since === null ? "" : `, ${after(ended.at_ms)}`}.`) : null,
    worth(reward, known),
  );
}

function worth(reward, known) {
  if (!reward) return make("p", {}, "It is still open.");
  const result = reward.result.replace("_", " ");
  if (!["rewarded", "defaulted"].includes(reward.result)) {
    return make("p", {}, make("strong", {}, `Closed as ${result}`), `: ${reward.result_reason.replaceAll("_", " ")}. It earns nothing and nothing is learned.`);
  }
  const how =
    reward.source === "reaction"
      ? ` = ${reward.happiness_after.toFixed(2)} after − ${(known.happiness_before ?? 0).toFixed(2)} before`
      : reward.source === "default"
        ? ": the default, as nothing usable came"
        : ": as was given";
  return make("p", {}, "It earned ", make("strong.earned", {}, signed(reward.reward, 3)), how, reward.clipped ? `, clipped from ${signed(reward.raw, 3)}` : "", ".");
}

function learned({ learned: policies, reward, chosen }) {
  if (!policies.length) {
    return step("What was learned", make("p", {}, reward ? "Nothing is known of it." : "Nothing yet: first it must close."));
  }
  return step(
    "What was learned",
    make(
      "ul.plain",
      {},
      ...policies.map((each) =>
        make(
          "li",
          {},
          make("strong", {}, each.policy_id),
          each.role === "serving" ? "" : ` (${each.role})`,
          each.why_not
            ? ` learned nothing: ${each.why_not}`
            : each.probability_before === null || each.probability_after === null
              ? ` came from version ${each.version_before} to ${each.version_after}`
              : ` would now give ${nameOf(chosen.action)} ${percent(each.probability_after)} to such a visitor, before ${percent(each.probability_before)}`,
          each.why_not ? null : make("small", {}, ` version ${each.version_before} → ${each.version_after}`),
        ),
      ),
    ),
  );
}
