/**
 * The kiosk page: sees a visitor, greets, shows the gateway the reaction, and stays pleasant
 * whatever is missing: gateway, camera, voice or key.
 */

import { Camera, Doorbell } from "/kiosk/camera.js";
import { startEdge } from "/kiosk/edge.js";
import { ANALYSER } from "/kiosk/edge_analyser.js";
import { GatewayVoice } from "/kiosk/gateway_voice.js";
import { Greeter } from "/kiosk/greeter.js";
import { Link, storage } from "/kiosk/link.js";
import { Speaker } from "/kiosk/speaker.js";
import { Stage } from "/kiosk/stage.js";
import { Voices } from "/kiosk/voices.js";
import { nearest, wording } from "/kiosk/words.js";

const CAMERA_AGAIN_MS = 10_000;
const EDGE_AGAIN_MS = 60_000;
const MOTION_EVERY_MS = 250;
const PREVIEW = "pho.preview";

const query = new URLSearchParams(location.search);
const $ = (id) => document.getElementById(id);

/** What the gateway's settings say to the page before anybody connects. */
async function pageSettings() {
  try {
    const response = await fetch("/kiosk/settings.json", { cache: "no-cache", signal: AbortSignal.timeout(3000) });
    return response.ok ? await response.json() : {};
  } catch {
    return {};
  }
}

class Kiosk {
  constructor(settings) {
    this.settings = settings;
    this.language = query.get("language") ?? settings.language ?? navigator.language ?? "en";
    document.documentElement.lang = nearest(this.language);
    const own = Object.entries(settings.words ?? {}).map(([name, texts]) => [name, texts[nearest(this.language, texts)]]);
    this.stage = new Stage(wording(this.language, Object.fromEntries(own.filter(([, text]) => text))));
    this.say = this.stage.say;
    this.edge = (query.get("analysis") ?? settings.analysis) === "edge";
    this.edgeAnalyser = null;
    this.edgeTrouble = false; // it cannot be loaded
    this.started = false;
    this.trouble = null; // why there is no camera
    this.pausedUntil = 0; // somebody objected
    this.presence = "nobody"; // what the gateway last saw
    this.doorbell = new Doorbell();
    this.camera = new Camera($("preview"), () => this.cameraLost());
    this.link = new Link(() => this.introduction());
    const silent = query.get("voice") === "off";
    this.voices = new Voices(new Speaker(), new GatewayVoice(() => this.link.open), silent);
    this.greeter = new Greeter(this.stage, this.voices, this.link, () => this.render());
    this.greeter.baselineFrom(settings.baseline);
    this.listen();
    this.render();
    $("start").disabled = false;
  }

  /** What the gateway is told of this page. */
  introduction() {
    return {
      kiosk_id: this.link.kiosk_id ?? query.get("kiosk") ?? this.settings.kiosk_id ?? "kiosk-1",
      language: this.language,
      notice: this.noticeStands() ? "page" : "none",
      analysis: this.edge ? "edge" : "gateway",
    };
  }

  /** True: whoever stands here can read the notice now. */
  noticeStands() {
    return this.started && !document.hidden && !this.paused;
  }

  get paused() {
    return performance.now() < this.pausedUntil;
  }

  listen() {
    $("start").addEventListener("click", () => this.start());
    $("camera-again").addEventListener("click", () => this.openCamera());
    $("object").addEventListener("click", () => this.object());
    $("look-again").addEventListener("click", () => this.endPause());
    $("key-panel").addEventListener("submit", (event) => {
      event.preventDefault();
      this.link.use($("key").value.trim());
      $("key").value = "";
    });
    $("preview-toggle").addEventListener("click", () => {
      const shown = $("preview-toggle").getAttribute("aria-pressed") !== "true";
      storage.setItem(PREVIEW, shown ? "shown" : "hidden");
      this.stage.showPreview(shown);
    });
    this.stage.showPreview(storage.getItem(PREVIEW) !== "hidden");
    document.addEventListener("visibilitychange", () => {
      this.link.send({ type: "notice", shown: this.noticeStands() });
      if (!document.hidden) this.stayAwake();
    });
    document.addEventListener("pointerdown", () => this.link.wake());
    // Its end: to a browser a finger that comes down is no gesture yet.
    document.addEventListener("pointerup", () => this.started && this.voices.touched());
    navigator.mediaDevices?.addEventListener?.("devicechange", () => {
      if (this.started && this.trouble) this.openCamera();
    });
    this.link.addEventListener("state", () => {
      if (!this.link.open) {
        this.seen({ box: null, stage: "nobody" });
        if (this.link.state === "away") this.doorbell.rest(performance.now());
      }
      this.render();
    });
    this.link.addEventListener("welcome", ({ detail }) => this.welcomed(detail));
    this.link.addEventListener("seen", ({ detail }) => this.seen(detail));
    this.link.addEventListener("visit", ({ detail }) => this.greeter.visit(detail));
    this.link.addEventListener("greeting", ({ detail }) => {
      if (!this.paused) this.greeter.greet(detail);
    });
    this.link.addEventListener("error", ({ detail }) => this.problem(detail));
  }

  welcomed({ baseline, speech, loop_id }) {
    this.greeter.baselineFrom(baseline);
    this.voices.gateway.offer(speech, loop_id);
    // It is what is said while the gateway is away: then nobody could be asked.
    if (this.greeter.baseline) this.voices.prepare(this.greeter.own(this.language));
    this.render();
  }

  problem(detail) {
    console.warn(`${detail.problem}. ${detail.cure}`);
    this.render();
  }

  async start() {
    if (this.started) return;
    this.started = true;
    this.voices.unlock();
    this.link.start();
    if (this.edge) this.loadEdge();
    this.watch();
    this.stayAwake();
    await this.openCamera();
  }

  async loadEdge() {
    try {
      this.edgeAnalyser = await startEdge();
      this.edgeTrouble = false;
    } catch (error) {
      // Blind it stays: pictures must not leave a page that was told to keep them.
      console.warn(`no analysis on this device: ${error.message}`);
      this.edgeTrouble = true;
      setTimeout(() => this.loadEdge(), EDGE_AGAIN_MS);
    }
    this.render();
  }

  async openCamera() {
    clearTimeout(this.cameraTimer);
    if (this.paused) return;
    try {
      await this.camera.open();
      // Somebody objected while the browser asked.
      if (this.paused) this.camera.close();
      this.trouble = null;
    } catch (error) {
      this.trouble = error.reason ?? "busy";
      this.stage.cameraWhy(this.trouble);
      // Who was refused is not asked again and again: that takes a touch.
      if (this.trouble !== "denied") this.cameraTimer = setTimeout(() => this.openCamera(), CAMERA_AGAIN_MS);
    }
    this.render();
  }

  cameraLost() {
    this.trouble = "busy";
    this.stage.cameraWhy("busy");
    this.seen({ box: null, stage: "nobody" });
    this.cameraTimer = setTimeout(() => this.openCamera(), CAMERA_AGAIN_MS / 5);
    this.render();
  }

  /** Somebody does not want to be looked at: the camera goes off until they are gone. */
  object() {
    const pause_ms = this.settings.objection_ms ?? 60_000;
    this.pausedUntil = performance.now() + pause_ms;
    this.greeter.clear();
    this.camera.close();
    this.link.send({ type: "notice", shown: false });
    this.seen({ box: null, stage: "nobody" });
    this.stage.whisper(`${this.say("objection_title")} ${this.say("objection_text")}`);
    $("look-again").focus();
    this.pauseTimer = setInterval(() => {
      const left = this.pausedUntil - performance.now();
      this.stage.countdown(Math.max(0, left / pause_ms));
      if (left <= 0) this.endPause();
    }, 250);
    this.render();
  }

  endPause() {
    clearInterval(this.pauseTimer);
    this.pausedUntil = 0;
    this.link.send({ type: "notice", shown: this.noticeStands() });
    this.openCamera();
    this.render();
  }

  /** What the gateway saw in the last picture. */
  seen({ box, stage }) {
    this.presence = stage;
    this.stage.avatar.lookAt(box);
    this.render();
  }

  /** Look through the camera again and again, at the gateway's pace. */
  async watch() {
    for (;;) {
      const begun = performance.now();
      const welcome = this.link.welcome;
      if (this.camera.live && !this.paused && !document.hidden) {
        if (this.link.open && !this.edgeTrouble) await this.report(welcome.shot_width).catch((error) => console.warn(error.message));
        else this.lookOut(begun);
      }
      const pause_ms = this.link.open ? 1000 / welcome.shots_per_second : MOTION_EVERY_MS;
      await new Promise((done) => setTimeout(done, Math.max(20, pause_ms - (performance.now() - begun))));
    }
  }

  /** Send the gateway what is to be seen: a picture, or in edge mode numbers alone. */
  async report(width) {
    if (!this.link.ready) return;
    const at_ms = Date.now();
    if (this.edge) {
      if (!this.edgeAnalyser) return;
      const found = await this.edgeAnalyser.look(await this.camera.bitmap(width));
      this.link.look({ at_ms, ...found, ...ANALYSER });
      return;
    }
    const jpeg = await this.camera.jpeg(width);
    // Asked once more: a pause or an objection may have come while the picture was encoded.
    if (jpeg && this.camera.live && !this.paused) this.link.shot(at_ms, jpeg);
  }

  /** While the gateway is away, or nobody can see for it: greet with the baseline when somebody comes. */
  lookOut(now) {
    if (this.doorbell.feel(this.camera.motion(), now) && this.link.state !== "displaced") {
      this.greeter.greetAlone(this.language);
    }
  }

  async stayAwake() {
    if (!this.started || document.hidden) return;
    // A screen that goes dark greets nobody; where the browser cannot, the system's settings must.
    this.lock = await navigator.wakeLock?.request("screen").catch(() => null);
  }

  /** Show what is the case. */
  render() {
    this.stage.show(this.phase(), this.greeter.mood);
    const { state } = this.link;
    const more = [];
    if (this.edge && this.edgeAnalyser) more.push(this.say("status_edge"));
    if (this.voices.silent) more.push(this.say("status_silent"));
    else if (this.started && !this.voices.has(this.language)) more.push(this.say("status_mute"));
    const lights = { idle: "idle", open: "good", connecting: "away", away: "away", key: "bad", fatal: "bad", displaced: "bad" };
    let words = this.say({ idle: "status_start", fatal: "status_away" }[state] ?? `status_${state}`);
    if (state === "open") words += ` · ${this.link.welcome.kiosk_id}`;
    if (state === "fatal" && this.link.trouble) words = `${this.link.trouble.problem}. ${this.link.trouble.cure}`;
    if (this.edgeTrouble) more.push(this.say("status_blind"));
    if (this.trouble && !this.paused) more.push(this.say("status_camera"));
    const bad = this.trouble || this.edgeTrouble;
    this.stage.status(bad && state === "open" ? "bad" : lights[state], [words, ...more].join(" · "));
    if (state === "key") this.stage.keyWhy(this.say(this.link.trouble?.had_key ? "key_wrong" : "key_text"));
  }

  phase() {
    if (!this.started) return "start";
    if (this.paused) return "objection";
    if (this.link.state === "key") return "key";
    if (this.greeter.phase) return this.greeter.phase;
    if (this.trouble) return "camera";
    return this.presence === "arriving" || this.presence === "present" ? "arriving" : "waiting";
  }
}

pageSettings().then((settings) => {
  const kiosk = new Kiosk(settings);
  // For a computer that starts by itself; Chromium then needs --autoplay-policy=no-user-gesture-required.
  if (query.get("start") === "auto") kiosk.start();
});
