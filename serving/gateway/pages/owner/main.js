/** The owner's page: what works, in pictures; it stays open and follows the log by itself. */

import { showAlarms, showLearning, showLedger, showSpeed } from "./account.js";
import { showAnswer } from "./answer.js";
import { Live, useKey } from "./api.js";
import { loadCharts } from "./charts.js";
import { showCourse } from "./course.js";
import { prepareDecisions, showDecisions } from "./decisions.js";
import { at, fill, make, say } from "./dom.js";
import { showGreetings } from "./greetings.js";
import { prepareGroups, showGroups } from "./groups.js";
import { showHour } from "./hour.js";
import { openNamed, openReceipt, prepareReceipts } from "./receipt.js";
import { count, percent, timeText } from "./words.js";

const root = document.documentElement;
let live = null;
let summary = null;
let measure = "smile";
let chosen = false;

function show(found) {
  const first = summary === null;
  summary = found;
  // Where no face is ever seen after a decision, smiles say nothing: rewards do.
  if (!chosen && found.judged && !found.sees_faces) choose("reward");
  state("open");
  draw();
  if (first) openNamed();
}

function draw() {
  at("measures").hidden = !summary.sees_faces && summary.judged > 0;
  showLoops();
  showReading();
  showAnswer(summary, measure);
  showHour(summary);
  showGreetings(summary, measure);
  showGroups(summary, measure);
  showCourse(summary, measure);
  showLedger(summary);
  showLearning(summary);
  showSpeed(summary);
  showAlarms(summary);
  showDecisions(summary);
  fill(at("foot"), `Read from ${summary.log}: ${count(summary.reading.records)} records. Times are local; UTC stands behind each. Intervals hold 95 times in 100 at every moment at once.`);
  root.dataset.empty = String(summary.visits === 0);
  root.dataset.read = summary.reading.caught_up ? "all" : "part";
}

/** Say how far the log was read, and what of it cannot be. */
function showReading() {
  const { reading, left_out: left } = summary;
  if (reading.problem) {
    banner(`${reading.problem}. ${reading.cure}`);
    pulse("away", "The log is away");
    return;
  }
  banner("");
  const asides = [];
  if (!reading.caught_up) asides.push(`Reading the log${reading.share === null ? "" : `: ${percent(reading.share)}`} …`);
  if (reading.unreadable) asides.push(`${count(reading.unreadable)} records cannot be read; see pho dead-letters.`);
  if (root.dataset.charts === "tables") asides.push("The pictures’ library is not fetched, so tables stand here alone: run pho doctor --fetch-pages on the gateway’s machine.");
  for (const [why, number] of Object.entries(left)) asides.push(`${count(number)} outcomes are left out: ${why}.`);
  say(at("aside"), asides.join(" "));
  const age = summary.now_ms - summary.newest_ms;
  const quiet = summary.newest_ms && age > 3_600_000;
  pulse("live", quiet ? `Live; quiet since ${timeText(summary.newest_ms, summary.now_ms)}` : "Live");
}

function showLoops() {
  at("loop-choice").hidden = summary.loops.length < 2;
  fill(at("loop"), ...summary.loops.map((loop) => make("option", { value: loop }, loop)));
  at("loop").value = summary.loop_id ?? "";
}

function state(name) {
  root.dataset.state = name;
  at("key-panel").hidden = name !== "key";
  at("board").hidden = name === "key" || summary === null;
  at("main").inert = false;
}

function banner(text) {
  say(at("away"), text);
}

function pulse(look, words) {
  at("pulse").dataset.look = look;
  say(at("pulse-words"), words);
}

function away(refused) {
  if (refused.needsKey) {
    state("key");
    banner("");
    pulse("key", "Key needed");
    const tried = at("key").value !== "";
    say(at("key-why"), tried ? `${refused.message}. ${refused.cure}` : "");
    at("key").focus();
    return;
  }
  state("away");
  pulse("away", "Away");
  const since = summary === null ? "" : ` What stands here is of ${timeText(summary.now_ms, Date.now(), true)}.`;
  const why = refused.status === 0 ? "The gateway does not answer" : refused.message;
  banner(`${why}.${since} This page keeps trying.${refused.cure ? ` ${refused.cure}.` : ""}`);
}

function follow(loop) {
  live?.close();
  live = new Live(loop);
  live.addEventListener("summary", (event) => show(event.detail));
  live.addEventListener("away", (event) => away(event.detail));
}

function choose(name) {
  measure = name;
  for (const button of at("measures").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.measure === name));
  }
}

at("measures").addEventListener("click", (event) => {
  const name = event.target.dataset?.measure;
  if (!name || !summary) return;
  chosen = true;
  choose(name);
  draw();
});
at("loop").addEventListener("change", (event) => follow(event.target.value));
at("key-panel").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value.trim());
  follow(live?.loop ?? null);
});
addEventListener("online", () => live?.again());
document.addEventListener("visibilitychange", () => !document.hidden && live?.again());

prepareGroups(() => summary && showGroups(summary, measure));
prepareDecisions(openReceipt);
prepareReceipts();
if (!(await loadCharts())) {
  for (const numbers of document.querySelectorAll("details.numbers")) numbers.open = true;
}
follow(null);
