/** The mouth: which shape it has at a moment, by the marks of a voice, its words, or a rhythm of letters. */

/** Mouths by sound: open 0..1, width as a share of the mouth at rest. */
export const MOUTHS = {
  rest: [0, 1], closed: [0, 0.92], narrow: [0.16, 0.85], half: [0.42, 1], wide: [0.36, 1.05], open: [0.85, 0.95],
  round: [0.55, 0.55], pursed: [0.26, 0.5],
};
const SOUNDS = [
  [/[aáàâä]/, "open"], [/[oóòôöuúùûüw]/, "round"], [/[eéèêiíìîyj]/, "wide"], [/[mbp]/, "closed"], [/[fv]/, "narrow"],
];
/** Polly's visemes (its developer guide, "Phoneme and viseme tables"); what is not named here is narrow. */
const VISEMES = {
  sil: "rest", p: "closed", a: "open", E: "half", "@": "half", e: "wide", i: "wide", o: "round", O: "round",
  u: "pursed", S: "pursed",
};
/** The mouth is on a spring: it takes so long to be where it is drawn to. */
const LEAD_MS = 50;

/** Return the mouths of a word, one after the other. */
export function visemes(word) {
  const shapes = [];
  for (const letter of word.toLowerCase()) {
    const found = SOUNDS.find(([letters]) => letters.test(letter));
    const shape = found ? found[1] : /\p{L}/u.test(letter) ? "narrow" : null;
    if (shape && shapes.at(-1) !== shape) shapes.push(shape);
  }
  return shapes;
}

export class Mouth {
  constructor() {
    this.speech = null;
  }

  /**
   * Begin to speak a text.
   *
   * @param {string} text gives a rhythm, until words or marks say better
   * @param {{visemes: {at_ms: number, value: string}[], clock: () => number}|null} told where the
   *   voice knows its mouth: the shapes by time, and how much of the speech was heard, ms
   */
  speak(text, told = null) {
    if (told?.visemes.length) this.speech = told;
    else this.speech = { start: performance.now(), shapes: visemes(text), step: 95, told: false };
  }

  /** The voice has just begun a word. */
  word(word) {
    if (this.speech?.visemes) return; // it knows better
    this.speech = { start: performance.now(), shapes: [...visemes(word), "closed"], step: 78, told: true };
  }

  hush() {
    this.speech = null;
  }

  /** Return the shape of now; `calm`, for whoever asked for less motion: one for all of the speech. */
  shape(now, calm = false) {
    if (!this.speech) return "rest";
    if (calm) return "half";
    if (this.speech.visemes) {
      const heard_ms = this.speech.clock() + LEAD_MS;
      const mark = this.speech.visemes.findLast((each) => each.at_ms <= heard_ms);
      return mark ? (VISEMES[mark.value] ?? "narrow") : "rest";
    }
    const { start, shapes, step, told } = this.speech;
    // The time of a frame may lie before the word that was told while it waited to be drawn.
    const place = Math.max(0, Math.floor((now - start) / step));
    // After the last told word the mouth rests until the next one; the own rhythm goes on.
    return shapes.length && (place < shapes.length || !told) ? shapes[place % shapes.length] : "rest";
  }
}
