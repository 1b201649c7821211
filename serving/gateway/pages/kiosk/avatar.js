/**
 * The avatar: a persimmon that looks at its visitor, blinks, breathes, speaks and has moods.
 *
 * Every part of the face is a number that is drawn towards its target by a spring, so that no
 * movement ever jumps. What it shall do is said by a scene and a mood; idle life comes by itself.
 * Whoever asked for less motion gets the same faces without breathing, swaying and wandering eyes,
 * and a mouth that stays open while it speaks.
 */

import { MOUTHS, Mouth } from "/kiosk/mouth.js";

/** A face: smile -1..1, open 0..1 (mouth), lid 0..1 (closed), brow -1..1, tilt -1..1 (brows), perk -1..1 (leaves). */
const FACES = {
  neutral: { smile: 0.45, lid: 0.1, brow: 0, tilt: 0, squint: 0, perk: 0, cheek: 0.55 },
  warm: { smile: 0.8, lid: 0.12, brow: 0.15, tilt: 0.15, squint: 0.3, perk: 0.3, cheek: 0.8 },
  joyful: { smile: 1, lid: 0, brow: 0.6, tilt: 0.1, squint: 0.5, perk: 1, cheek: 1 },
  funny: { smile: 0.9, lid: 0.16, brow: 0.3, tilt: -0.2, squint: 0.25, perk: 0.5, cheek: 0.9, lopsided: 1 },
  curious: { smile: 0.6, lid: 0, brow: 0.75, tilt: 0.35, squint: 0, perk: 0.6, cheek: 0.5, lopsided: 0.6, lean: 1 },
  formal: { smile: 0.5, lid: 0.16, brow: 0.1, tilt: 0, squint: 0.1, perk: 0.05, cheek: 0.4, bow: 1 },
  charming: { smile: 0.85, lid: 0.24, brow: 0.3, tilt: 0.2, squint: 0.35, perk: 0.4, cheek: 1, lean: -0.8 },
  cosy: { smile: 0.75, lid: 0.34, brow: 0, tilt: 0.2, squint: 0.35, perk: -0.1, cheek: 0.9 },
  grateful: { smile: 0.8, lid: 0.2, brow: 0.2, tilt: 0.5, squint: 0.4, perk: 0.2, cheek: 0.9, bow: 0.7 },
};
const SCENES = {
  waiting: { smile: 0.5, lid: 0.14, brow: 0, tilt: 0, squint: 0, perk: -0.1, cheek: 0.5 },
  arriving: { smile: 0.6, lid: -0.06, brow: 0.8, tilt: 0.1, squint: 0, perk: 1, cheek: 0.6 },
  after: { smile: 0.95, lid: 0.1, brow: 0.2, tilt: 0.1, squint: 0.45, perk: 0.5, cheek: 0.95 },
  shy: { smile: 0.35, lid: 1.06, brow: 0.15, tilt: 0.4, squint: 0, perk: -0.5, cheek: 0.9 },
  puzzled: { smile: -0.1, lid: 0.12, brow: 0.35, tilt: 0.6, squint: 0, perk: -0.6, cheek: 0.4, lean: 0.7 },
};
const FRAME_MS = 1000 / 30;
const STIFFNESS = 170; // 1/s²: a face takes a new look in a third of a second
const EYES = { left: 146, right: 254, y: 232, rx: 35, ry: 41 };

/** One number on a spring. */
class Spring {
  constructor(value, stiffness = STIFFNESS) {
    this.value = this.target = value;
    this.speed = 0;
    this.stiffness = stiffness;
  }

  /** Move on by `seconds`; damped so that it overshoots by a hair, as living things do. */
  step(seconds) {
    const damping = 1.6 * Math.sqrt(this.stiffness);
    this.speed += ((this.target - this.value) * this.stiffness - this.speed * damping) * seconds;
    this.value += this.speed * seconds;
  }

  snap() {
    this.value = this.target;
    this.speed = 0;
  }
}

export class Avatar {
  /** @param {SVGSVGElement} svg the drawing; its parts carry `data-part`. */
  constructor(svg) {
    this.parts = Object.fromEntries([...svg.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    const names = ["smile", "lid", "brow", "tilt", "squint", "perk", "cheek", "lopsided", "lean", "bow"];
    this.face = Object.fromEntries(names.map((name) => [name, new Spring(0)]));
    this.gaze = { x: new Spring(0, 90), y: new Spring(0, 90) };
    this.mouth = { open: new Spring(0, 900), width: new Spring(1, 900) };
    this.hop = new Spring(0, 220);
    this.waveUntil = 0;
    this.nextBlink = 1500;
    this.blinkStart = -1000;
    this.nextGlance = 2500;
    this.speech = new Mouth();
    this.seen = null;
    this.dress("waiting", "neutral");
    for (const spring of Object.values(this.face)) spring.snap();
    this.last = performance.now();
    const frame = (now) => {
      // 30 pictures a second are smooth enough, and leave a small computer time for the camera.
      if (now - this.last >= FRAME_MS - 4) this.tick(now);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  /** Take a scene ("waiting", "arriving", "greeting", "after", "shy", "puzzled") and a mood. */
  dress(scene, mood = "neutral") {
    const face = scene === "greeting" ? (FACES[mood] ?? FACES.warm) : (SCENES[scene] ?? FACES.neutral);
    for (const [name, spring] of Object.entries(this.face)) spring.target = face[name] ?? 0;
    if (this.scene !== scene && (scene === "arriving" || scene === "greeting") && !this.still.matches) this.hop.speed = -170;
    this.scene = scene;
  }

  /** Wave for a while, ms. */
  wave(ms = 1900) {
    this.waveUntil = performance.now() + ms;
  }

  /**
   * Look at a face: its box in fractions of the camera's picture; null: nobody.
   *
   * The camera looks at the visitor, so what is left in its picture stands right of the screen.
   */
  lookAt(box) {
    if (!box) {
      this.seen = null;
      return;
    }
    const x = 1 - (box.left + box.width / 2);
    const y = box.top + box.height / 2;
    this.seen = { x: clamp((x - 0.5) * 2.2, -1, 1), y: clamp((y - 0.45) * 1.8, -1, 1) };
  }

  /** Begin to speak; `told` has the shapes of the mouth where the voice knows them: see `Mouth.speak`. */
  speak(text, told = null) {
    this.speech.speak(text, told);
  }

  /** The voice has just begun a word. */
  word(word) {
    this.speech.word(word);
  }

  /** The voice is silent again. */
  hush() {
    this.speech.hush();
  }

  tick(now) {
    const seconds = Math.min(now - this.last, 100) / 1000;
    this.last = now;
    this.live(now);
    this.talk(now);
    // Small steps: a stiff spring would swing up over a long one.
    const springs = [...Object.values(this.face), ...Object.values(this.gaze), ...Object.values(this.mouth), this.hop];
    for (let step = 0; step < 4; step += 1) for (const spring of springs) spring.step(seconds / 4);
    this.draw(now);
  }

  /** Blink, look around, follow. */
  live(now) {
    if (now > this.nextBlink) {
      this.blinkStart = now;
      this.nextBlink = now + (Math.random() < 0.15 ? 260 : 2200 + Math.random() * 3600);
    }
    if (this.seen) {
      this.gaze.x.target = this.seen.x;
      this.gaze.y.target = this.seen.y;
    } else if (this.still.matches) {
      this.gaze.x.target = this.gaze.y.target = 0;
    } else if (now > this.nextGlance) {
      const home = Math.random() < 0.45;
      this.gaze.x.target = home ? 0 : Math.random() * 1.5 - 0.75;
      this.gaze.y.target = home ? 0 : Math.random() * 0.9 - 0.5;
      this.nextGlance = now + 1400 + Math.random() * 3200;
    }
  }

  talk(now) {
    [this.mouth.open.target, this.mouth.width.target] = MOUTHS[this.speech.shape(now, this.still.matches)];
  }

  draw(now) {
    const { face, gaze, parts } = this;
    const calm = this.still.matches;
    const breath = calm ? 0 : Math.sin(now / 900);
    const sway = calm ? 0 : Math.sin(now / 2300) * 1.1;
    const x = gaze.x.value;
    const y = gaze.y.value;
    const tall = 1 + breath * 0.008 - this.hop.value * 0.0006;
    const lean = face.lean.value * 4 + x * 2.2 + sway;
    const bow = face.bow.value * 5;
    set(parts.body, `translate(200 386) rotate(${n(lean)}) scale(${n(2 - tall)} ${n(tall)}) translate(-200 ${n(-386 + this.hop.value * 0.9)})`);
    set(parts.shadow, `translate(${n(200 + x * 3)} 398) scale(${n(1 + this.hop.value * 0.006)} 1) translate(-200 -398)`);
    set(parts.face, `translate(${n(x * 9)} ${n(y * 6 + bow)})`);
    this.drawLeaves(now, breath);
    this.drawArms(now);
    this.drawEyes(now, x, y);
    this.drawMouth();
    parts.cheeks.setAttribute("opacity", n(clamp(face.cheek.value, 0, 1)));
  }

  drawLeaves(now, breath) {
    const perk = this.face.perk.value * 13 + breath * 1.2 - this.hop.value * 0.25;
    const flick = this.still.matches ? 0 : Math.sin(now / 700) * 1.2;
    turn(this.parts["leaf-1"], perk + flick, 198, 122);
    turn(this.parts["leaf-2"], -perk + flick, 202, 122);
    turn(this.parts["leaf-3"], -perk * 0.4 + flick * 1.6, 199, 124);
    turn(this.parts["leaf-4"], perk * 0.4 + flick * 1.6, 201, 124);
  }

  drawArms(now) {
    const left = this.waveUntil - now;
    let angle = this.face.perk.value * -6;
    let reach = 1;
    if (left > 0) {
      const rise = Math.min(1, left / 300, (1900 - Math.min(left, 1900)) / 220 + 0.2);
      angle = -80 * rise + (this.still.matches ? 0 : Math.sin(now / 95) * 19 * rise);
      reach = 1 + 0.32 * rise;
    }
    set(this.parts["right-arm"], `translate(324 290) rotate(${n(angle)}) scale(${n(reach)}) translate(-324 -290)`);
    turn(this.parts["left-arm"], this.face.perk.value * 6, 78, 294);
  }

  drawEyes(now, x, y) {
    const { face, parts } = this;
    const blink = now - this.blinkStart;
    const shut = blink < 170 ? 1 - Math.abs(blink / 85 - 1) : 0;
    const lopsided = face.lopsided.value;
    for (const [side, centre] of [["left", EYES.left], ["right", EYES.right]]) {
      const sign = side === "left" ? -1 : 1;
      set(parts[`${side}-iris`], `translate(${n(x * 10)} ${n(y * 11)})`);
      const wide = this.scene === "arriving" ? 1.13 : 1;
      set(parts[`${side}-pupil`], `translate(${centre} 234) scale(${wide}) translate(${-centre} -234)`);
      const wink = side === "right" ? lopsided * 0.28 : 0;
      const lid = clamp(face.lid.value + wink + shut * 1.1, -0.1, 1.06);
      const top = EYES.y - EYES.ry - 2;
      const drop = lid * (EYES.ry * 2 - 6);
      // The lid's edge hangs down where the eye is open and bulges down when it closes.
      const edge = top + drop;
      const bulge = -20 + clamp(lid, 0, 1) * 42;
      parts[`${side}-lid`].setAttribute("d", `M${centre - 50} 90 H${centre + 50} V${n(edge)} Q${centre} ${n(edge + bulge)} ${centre - 50} ${n(edge)} Z`);
      this.drawLash(parts[`${side}-lash`], centre, edge, bulge);
      const rise = clamp(face.squint.value, 0, 1) * 20 * (1 - clamp(lid, 0, 1));
      const floor = EYES.y + EYES.ry + 12 - rise;
      parts[`${side}-under`].setAttribute("d", `M${centre - 50} 380 H${centre + 50} V${n(floor)} Q${centre} ${n(floor - 24)} ${centre - 50} ${n(floor)} Z`);
      const height = 172 - face.brow.value * 13 - (side === "left" ? lopsided * 12 : -lopsided * 4) - y * -2;
      const inner = height - face.tilt.value * 9;
      const outer = height + face.tilt.value * 5 + 3;
      const [from, to] = [centre - sign * 24, centre + sign * 27];
      parts[`${side}-brow`].setAttribute("d", `M${from} ${n(inner)} Q${centre} ${n(height - 13)} ${to} ${n(outer)}`);
    }
  }

  /** Draw the line of the lashes: along the lid, or along the eye's outline where that is lower. */
  drawLash(part, centre, edge, bulge) {
    const points = [];
    for (let place = -4; place <= 4; place += 1) {
      const x = place * 0.24 * EYES.rx;
      const outline = EYES.y - EYES.ry * Math.sqrt(1 - (x / EYES.rx) ** 2);
      // The lid's edge is a parabola 100 wide: edge + bulge/2 in its middle.
      const lid = edge + (bulge / 2) * (1 - (x / 50) ** 2);
      points.push(`${n(centre + x)} ${n(Math.max(outline, lid))}`);
    }
    part.setAttribute("d", `M${points.join(" L")}`);
  }

  drawMouth() {
    const { face, mouth, parts } = this;
    const smile = face.smile.value;
    const open = clamp(mouth.open.value, 0, 1);
    const half = (32 + Math.max(smile, 0) * 12) * mouth.width.value;
    const skew = face.lopsided.value * 5;
    const [left, right, corner] = [200 - half, 200 + half, 300 - smile * 7];
    const upper = corner + smile * 32 - open * 6;
    const lower = upper + open * 62 + (smile > 0.7 ? (smile - 0.7) * 90 : 0);
    // The lower lip is round: a cubic whose middle lies at three quarters of its handles' depth.
    const depth = (lower - corner) * 0.67;
    const chin = `C${n(200 + half * 0.86)} ${n(corner + depth)} ${n(200 - half * 0.86)} ${n(corner + depth)}`;
    const shape = `M${n(left)} ${n(corner + skew)} Q200 ${n(upper)} ${n(right)} ${n(corner - skew)} ${chin} ${n(left)} ${n(corner + skew)} Z`;
    const filled = lower - upper > 5;
    parts.mouth.setAttribute("d", filled ? shape : "");
    parts["mouth-clip"].setAttribute("d", filled ? shape : "");
    parts["mouth-line"].setAttribute("d", filled ? shape : `M${n(left)} ${n(corner + skew)} Q200 ${n(upper)} ${n(right)} ${n(corner - skew)}`);
    set(parts.tongue, `translate(0 ${n(corner + depth * 0.75 - 336)})`);
  }
}

const n = (value) => value.toFixed(2);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const set = (part, transform) => part.setAttribute("transform", transform);
const turn = (part, degrees, x, y) => set(part, `rotate(${n(degrees)} ${x} ${y})`);
