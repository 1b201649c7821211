/**
 * The voice: the browser's own, and only one that lives on this machine.
 *
 * A voice from afar would send what is said here to somebody else. Nothing ever waits for it: where
 * it is missing, slow or forbidden, the captions alone greet.
 */

/** Chromium may never say that it ended: then this many ms a letter count as spoken. */
const LETTER_MS = 95;

export class Speaker {
  constructor(synthesis = globalThis.speechSynthesis) {
    this.synthesis = synthesis ?? null;
    this.run = 0;
    // Voices come late in Chromium; asking early makes it load them.
    this.synthesis?.getVoices();
  }

  /** Return the local voice for a language; null: there is none. */
  voice(language, name = null) {
    const base = language.toLowerCase().split("-")[0];
    const local = (this.synthesis?.getVoices() ?? []).filter((voice) => voice.localService);
    const fits = local.filter((voice) => voice.lang.toLowerCase().replace("_", "-").split("-")[0] === base);
    const exact = fits.filter((voice) => voice.lang.toLowerCase().replace("_", "-") === language.toLowerCase());
    return fits.find((voice) => voice.name === name) ?? exact.find((voice) => voice.default) ?? exact[0] ?? fits[0] ?? null;
  }

  has(language) {
    return this.voice(language) !== null;
  }

  /** Called inside a gesture of the user: browsers speak only after one. */
  unlock() {
    if (!this.synthesis || typeof SpeechSynthesisUtterance === "undefined") return;
    this.synthesis.cancel();
    const silent = new SpeechSynthesisUtterance(" ");
    silent.volume = 0;
    this.synthesis.speak(silent);
  }

  /**
   * Say a text; return false where no local voice can.
   *
   * @param {string} text what to say
   * @param {string} language BCP 47 tag
   * @param {string|null} name of the voice wished for
   * @param {{start?: () => void, word?: (from: number, to: number) => void, end?: (spoken: boolean) => void}} told
   *   called when the voice begins, at each word where the voice tells them, and once at the end
   */
  say(text, language, name, told) {
    const voice = this.voice(language, name);
    if (!voice || typeof SpeechSynthesisUtterance === "undefined") return false;
    this.hush();
    const run = (this.run += 1);
    const utterance = new SpeechSynthesisUtterance(text);
    utterance.voice = voice;
    utterance.lang = voice.lang;
    utterance.rate = 0.98;
    let timer = 0;
    let begun = false;
    const end = () => {
      if (run !== this.run) return;
      clearTimeout(timer);
      this.run += 1;
      told.end?.(begun);
    };
    utterance.onstart = () => {
      begun = true;
      if (run === this.run) told.start?.();
    };
    utterance.onboundary = (event) => {
      if (run !== this.run || event.name !== "word") return;
      const length = event.charLength || text.slice(event.charIndex).search(/\s|$/);
      told.word?.(event.charIndex, event.charIndex + length);
    };
    utterance.onend = utterance.onerror = end;
    timer = setTimeout(end, 3000 + text.length * LETTER_MS);
    // Held on purpose: Chromium collects an utterance that nobody holds, and its events with it.
    this.utterance = utterance;
    this.synthesis.speak(utterance);
    return true;
  }

  /** Fall silent at once. */
  hush() {
    this.run += 1;
    this.synthesis?.cancel();
  }
}
