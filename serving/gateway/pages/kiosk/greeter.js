/** Greets: one greeting a visit, on the screen first, with the voice beside it. */

import { storage } from "/kiosk/link.js";
import { nearest } from "/kiosk/words.js";

/** A visitor whose greeting has not come by then gets the baseline: nobody is left standing. */
const PATIENCE_MS = 3_000;
/** How long somebody reads: a start and so much a letter, at the pace of a child. */
const READ_MS = 1_600;
const READ_LETTER_MS = 65;
/** The caption stays until the visitor goes, but not for ever. */
const STAYS_MS = 25_000;
const AFTER_THE_VISIT_MS = 1_500;
const BASELINE = "pho.baseline";
const VISITS_KEPT = 50;

export class Greeter {
  /**
   * @param {import("/kiosk/stage.js").Stage} stage shows the caption
   * @param {import("/kiosk/voices.js").Voices} speaker says it
   * @param {import("/kiosk/link.js").Link} link takes the report
   * @param {() => void} changed called when `phase` or `mood` changed
   */
  constructor(stage, speaker, link, changed) {
    this.stage = stage;
    this.speaker = speaker;
    this.link = link;
    this.changed = changed;
    this.phase = null; // "greeting", "after", or null: nothing is said
    this.mood = "neutral";
    this.baseline = null;
    this.greeted = []; // ids of the visits that were greeted
    this.now = null; // id of the visit whose greeting stands there
    this.timers = {};
    try {
      this.baselineFrom(JSON.parse(storage.getItem(BASELINE)));
    } catch {
      storage.removeItem(BASELINE);
    }
  }

  /** Keep what is said while nobody answers. */
  baselineFrom(baseline) {
    if (!baseline?.texts || !Object.keys(baseline.texts).length) return;
    this.baseline = baseline;
    storage.setItem(BASELINE, JSON.stringify(baseline));
  }

  /** A visit began or ended. */
  visit(message) {
    this.stop("patience");
    if (message.state === "ended") {
      if (this.now === message.visit_id) this.later("end", AFTER_THE_VISIT_MS, () => this.clear());
      return;
    }
    const { visit_id, resume } = message;
    if (this.greeted.includes(visit_id)) return;
    if (resume?.shown_at_ms) {
      this.note(visit_id);
      return;
    }
    this.later("patience", PATIENCE_MS, () => this.fallBack(visit_id));
  }

  /** The gateway chose a greeting. */
  greet(greeting) {
    if (this.greeted.includes(greeting.visit_id) || greeting.expires_in_ms <= 0) return;
    this.stop("patience");
    this.note(greeting.visit_id);
    this.now = greeting.visit_id;
    const { decision_id, action_id } = greeting;
    this.say(greeting, (shown_at_ms) => this.link.shown(greeting.visit_id, { decision_id, action_id, shown_at_ms }));
  }

  /** No greeting came in time: the baseline, and the gateway learns that it was this. */
  fallBack(visit_id) {
    if (!this.baseline || this.greeted.includes(visit_id)) return;
    this.note(visit_id);
    this.now = visit_id;
    const { action_id } = this.baseline;
    const report = (shown_at_ms) => this.link.shown(visit_id, { decision_id: visit_id, action_id, shown_at_ms, fallback: true });
    this.say(this.own(this.link.introduce().language), report);
  }

  /** The gateway is away, and somebody came. */
  greetAlone(language) {
    if (!this.baseline || this.phase === "greeting") return;
    this.now = null;
    this.say(this.own(language), () => undefined);
    this.later("end", STAYS_MS / 3, () => this.clear());
  }

  /** Return the baseline as a greeting in a language. */
  own(language) {
    const { action_id, texts, voice, mood } = this.baseline;
    const tag = nearest(language, texts);
    return { action_id, text: texts[tag], language: tag, voice, mood };
  }

  /** Put it on the screen, report it when it stands there, and let the voice begin. */
  say(greeting, report) {
    const { text, language, mood } = greeting;
    this.stop("end");
    this.stop("read");
    this.mood = mood || "warm";
    this.phase = "greeting";
    this.stage.caption(text, language);
    this.changed();
    const { avatar } = this.stage;
    avatar.wave();
    // The first callback runs before the caption is drawn, the second after. In a hidden tab neither
    // runs until it is looked at again: then another caption may stand there, or none.
    const standing = (this.standing = Symbol("caption"));
    const drawn = () => this.standing === standing && report(Date.now());
    requestAnimationFrame(() => requestAnimationFrame(drawn));
    avatar.hush(); // what it said before
    const speaks = this.speaker.say(greeting, {
      start: (sound) => avatar.speak(text, sound),
      word: (from, to) => {
        avatar.word(text.slice(from, to));
        this.stage.saidUpTo(text, from);
      },
      end: () => {
        avatar.hush();
        this.stage.saidAll();
      },
    });
    if (!speaks) avatar.hush();
    this.later("read", READ_MS + READ_LETTER_MS * text.length, () => {
      this.phase = "after";
      this.changed();
    });
    this.later("end", STAYS_MS, () => this.clear());
  }

  /** Take everything off the screen. */
  clear() {
    for (const name of Object.keys(this.timers)) this.stop(name);
    this.speaker.hush();
    this.stage.avatar.hush();
    this.stage.saidAll();
    this.standing = null;
    this.phase = null;
    this.mood = "neutral";
    this.now = null;
    this.changed();
  }

  note(visit_id) {
    this.greeted = [...this.greeted, visit_id].slice(-VISITS_KEPT);
  }

  later(name, ms, then) {
    this.stop(name);
    this.timers[name] = setTimeout(then, ms);
  }

  stop(name) {
    clearTimeout(this.timers[name]);
    delete this.timers[name];
  }
}
