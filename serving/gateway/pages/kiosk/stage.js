/** What stands on the screen: panels, caption, notice, status. It decides nothing. */

import { Avatar } from "/kiosk/avatar.js";

const PANELS = ["start", "key", "camera", "objection"];
/** From so many letters on a caption is set smaller: five lines of a phone. */
const LONG_LETTERS = 60;

const $ = (id) => document.getElementById(id);

export class Stage {
  /** @param {(name: string) => string} say the page's own words in its language. */
  constructor(say) {
    this.say = say;
    this.avatar = new Avatar($("avatar"));
    this.words = [];
    for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
    document.title = say("title");
    for (const id of ["start-notice", "foot-notice"]) $(id).textContent = say("notice");
    $("start-objection").textContent = say("objection");
    $("invitation").textContent = say("invitation");
    this.showPreview(true);
  }

  /** Show a phase: "start", "key", "camera", "objection", "waiting", "arriving", "greeting" or "after". */
  show(phase, mood = "neutral") {
    if (this.shown === `${phase} ${mood}`) return;
    this.shown = `${phase} ${mood}`;
    const root = document.documentElement;
    const before = root.dataset.phase;
    root.dataset.phase = phase;
    root.dataset.mood = phase === "greeting" || phase === "after" ? mood : "neutral";
    for (const name of PANELS) $(`${name}-panel`).hidden = name !== phase;
    const greets = phase === "greeting" || phase === "after";
    $("caption").hidden = !greets;
    $("invitation").hidden = phase !== "waiting" && phase !== "arriving";
    $("invitation").textContent = this.say(phase === "arriving" ? "arriving" : "invitation");
    const runs = greets || phase === "waiting" || phase === "arriving";
    $("foot").hidden = !runs;
    $("corner").hidden = !runs;
    const scenes = { start: "waiting", key: "puzzled", camera: "puzzled", objection: "shy" };
    this.avatar.dress(scenes[phase] ?? phase, mood);
    if (phase !== before && phase === "key") $("key").focus();
  }

  /** Put a greeting on the screen, and into the ears of a screen reader. */
  caption(text, language) {
    const caption = $("caption");
    caption.lang = $("spoken").lang = language;
    caption.classList.toggle("long", text.length > LONG_LETTERS);
    caption.classList.remove("spoken-along");
    this.words = [];
    caption.replaceChildren();
    for (const piece of text.match(/\s+|\S+/g) ?? []) {
      if (!piece.trim()) {
        caption.append(piece);
        continue;
      }
      const word = document.createElement("span");
      word.className = "word";
      word.textContent = piece;
      this.words.push(word);
      caption.append(word);
    }
    $("spoken").textContent = text;
  }

  /** The voice is at the letters from `from` on: words up to there are said. */
  saidUpTo(text, from) {
    $("caption").classList.add("spoken-along");
    const said = text.slice(0, from).split(/\s+/).filter(Boolean).length;
    this.words.forEach((word, place) => word.classList.toggle("said", place <= said));
  }

  saidAll() {
    $("caption").classList.remove("spoken-along");
  }

  /** Say quietly something that only a screen reader reads. */
  whisper(text) {
    $("spoken").lang = document.documentElement.lang;
    $("spoken").textContent = text;
  }

  showPreview(shown) {
    $("corner").classList.toggle("preview-hidden", !shown);
    const button = $("preview-toggle");
    button.setAttribute("aria-pressed", String(shown));
    button.setAttribute("aria-label", this.say(shown ? "preview_hide" : "preview_show"));
    button.title = button.getAttribute("aria-label");
  }

  /** @param {"idle"|"good"|"away"|"bad"} light the dot; @param {string} words what it means. */
  status(light, words) {
    $("status").dataset.light = light;
    $("status-words").textContent = words;
  }

  keyWhy(text) {
    $("key-why").textContent = text;
  }

  cameraWhy(reason) {
    $("camera-why").textContent = this.say(`camera_${reason}`);
  }

  /** Show how much of the pause is left, 0..1. */
  countdown(share) {
    $("countdown").style.transform = `scaleX(${share})`;
  }
}
