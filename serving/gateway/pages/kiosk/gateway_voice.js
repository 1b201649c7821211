/**
 * The gateway's voice: greetings that it has spoken, with the times of words and mouth.
 *
 * It is asked for a greeting by name, never for a text. What it said once is kept here, so that it
 * is said at once the next time, and the baseline also while the gateway is away.
 */

import { keyHeaders } from "/kiosk/link.js";

/** Nobody waits so long; what comes by then is there for the next visitor. */
const GIVE_UP_MS = 15_000;
/** More than a loop has greetings; some 20 kB each. */
const KEPT = 32;
/** A browser that wants a touch first lets `resume` wait for ever. */
const RESUME_MS = 400;
const WORDS_EVERY_MS = 40;
/** A sound device that goes away lets a sound never end. */
const LATE_END_MS = 3_000;
/** What was played may still be on its way to a speaker at the end of a radio. */
const REST_AFTER_MS = 2_000;

export class GatewayVoice {
  /** @param {() => boolean} reachable whether the gateway answers now */
  constructor(reachable) {
    this.reachable = reachable;
    this.languages = []; // that it speaks
    this.wait_ms = 0; // how long it is waited for
    this.loop_id = "";
    this.kept = new Map(); // promises of what was spoken, by name and text
    this.context = null;
    this.allowed = false;
    this.source = null; // what plays now
  }

  /** Take in what the gateway's welcome says of it: languages and wait_ms, or null. */
  offer(speech, loop_id) {
    this.languages = (speech?.languages ?? []).map((tag) => tag.toLowerCase());
    this.wait_ms = speech?.wait_ms ?? 0;
    this.loop_id = loop_id;
  }

  /** True: the gateway has a voice for this language. */
  has(language) {
    const tag = language.toLowerCase();
    return this.languages.includes(tag) || this.languages.includes(tag.split("-")[0]);
  }

  /** Called inside a gesture of the user: browsers play sound only after one. */
  unlock() {
    if (this.allowed || typeof AudioContext === "undefined") return;
    try {
      this.context ??= new AudioContext();
    } catch {
      return; // no sound on this machine
    }
    const allow = () => {
      this.allowed = true;
      this.rest();
    };
    this.context.resume().then(allow, () => undefined);
  }

  /**
   * Return what the gateway spoke, kept or asked for now; throws where it speaks it not.
   *
   * @param {{action_id: string, language: string, text: string, loop_id?: string}} greeting
   */
  spoken({ loop_id, action_id, language, text }) {
    const place = [loop_id ?? this.loop_id, action_id, language].map(encodeURIComponent).join("/");
    const name = `${place} ${text}`;
    let asked = this.kept.get(name);
    if (!asked) {
      if (!this.reachable()) return Promise.reject(new Error("the gateway is away"));
      asked = load(`/api/kiosk/speech/${place}`, text);
      // Asked again the next time.
      asked.catch(() => this.kept.get(name) === asked && this.kept.delete(name));
    }
    // What was said last stands last.
    this.kept.delete(name);
    this.kept.set(name, asked);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    return asked;
  }

  /**
   * Play it; throws where no sound begins.
   *
   * @param {{audio: ArrayBuffer, words: object[], visemes: object[]}} spoken as `spoken` gave it
   * @param {() => boolean} wanted asked just before the first sound: false, and it stays silent
   * @param {object} told as of `Speaker.say`; `start` gets the visemes and the clock of the sound
   */
  async play({ audio, words, visemes }, wanted, told) {
    if (!this.allowed) throw new Error("no sound without a touch");
    const { context } = this;
    // A copy: decoding takes the bytes away.
    const sound = await context.decodeAudioData(audio.slice(0));
    this.rest(); // for the case that nothing comes of it; from now, for its timer may be about to run
    await within(RESUME_MS, context.resume());
    if (!wanted()) return;
    this.hush();
    const source = (this.source = new AudioBufferSourceNode(context, { buffer: sound }));
    source.connect(context.destination);
    const begun_s = context.currentTime + (context.outputLatency || context.baseLatency || 0);
    const clock = () => (context.currentTime - begun_s) * 1000;
    let next = 0;
    const follow = () => {
      for (; next < words.length && words[next].at_ms <= clock(); next += 1) told.word?.(words[next].from, words[next].to);
    };
    const timers = [setInterval(follow, WORDS_EVERY_MS), setTimeout(() => end(), sound.duration * 1000 + LATE_END_MS)];
    const end = () => {
      for (const timer of timers) clearTimeout(timer);
      source.onended = null;
      if (this.source !== source) return; // hushed: another one speaks, or nobody
      this.source = null;
      this.rest();
      told.end?.(true);
    };
    source.onended = end;
    source.start();
    told.start?.({ visemes, clock });
  }

  /** Fall silent at once. */
  hush() {
    const { source } = this;
    this.source = null;
    source?.stop();
    if (source) this.rest();
  }

  /** Let go of the sound device: open all day it would cost power. */
  rest() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.source || this.context.suspend().catch(() => undefined), REST_AFTER_MS);
  }
}

async function load(path, text) {
  const options = { headers: keyHeaders(), cache: "no-store", signal: AbortSignal.timeout(GIVE_UP_MS) };
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
  const audio = await answer.arrayBuffer();
  const marked = await fetch(`${path}/marks`, options);
  if (!marked.ok) throw new Error(`the gateway answered ${marked.status}`);
  const told = await marked.json();
  // Chosen under other settings than the gateway's: nobody reads one thing and hears another.
  if (told.text !== text) throw new Error("the gateway speaks other words");
  const visemes = told.marks.filter((mark) => mark.kind === "viseme");
  const words = told.marks.filter((mark) => mark.kind === "word");
  return { audio, visemes, words: words.map((mark) => placed(mark, text)) };
}

/** Return when a word comes and where it stands: marks count characters, strings here UTF-16. */
function placed({ at_ms, start, end }, text) {
  const letters = [...text];
  const from = letters.slice(0, start).join("").length;
  return { at_ms, from, to: from + letters.slice(start, end).join("").length };
}

function within(ms, promise) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms);
    promise.then(resolve, reject);
  });
}
