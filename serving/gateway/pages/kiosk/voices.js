/**
 * Who speaks: the gateway's voice where it has one and it comes in time, else the one of this
 * machine, else nobody. Captions wait for none of them.
 */

export class Voices {
  /**
   * @param {import("/kiosk/speaker.js").Speaker} own the voice of this machine
   * @param {import("/kiosk/gateway_voice.js").GatewayVoice} gateway the gateway's
   * @param {boolean} silent true: this kiosk speaks not at all, and has nothing spoken
   */
  constructor(own, gateway, silent = false) {
    this.own = own;
    this.gateway = gateway;
    this.silent = silent;
    this.turn = null;
  }

  has(language) {
    return this.own.has(language) || this.gateway.has(language);
  }

  /** Called inside a gesture of the user: browsers speak only after one. */
  unlock() {
    if (this.silent) return;
    this.own.unlock();
    this.gateway.unlock();
  }

  /** Somebody touched the page: whatever still waited for it may sound now. */
  touched() {
    if (!this.silent) this.gateway.unlock();
  }

  /** Have a greeting spoken now that may be wanted later. */
  prepare(greeting) {
    // Whatever fails is asked for again when it is to be said.
    if (!this.silent && this.gateway.has(greeting.language)) this.gateway.spoken(greeting).catch(() => undefined);
  }

  /**
   * Say a greeting; return false where nobody can.
   *
   * @param {{text: string, language: string, voice: string|null, action_id: string, loop_id?: string}} greeting
   * @param {object} told as of `Speaker.say`; its `start` gets the visemes where a voice has them
   */
  say(greeting, told) {
    this.hush();
    if (this.silent) return false;
    const speakOneself = () => this.own.say(greeting.text, greeting.language, greeting.voice, told);
    if (!this.gateway.has(greeting.language)) return speakOneself();
    const turn = (this.turn = Symbol("turn"));
    let begun = false;
    const open = () => turn === this.turn && !begun;
    const instead = () => {
      if (!open()) return;
      begun = true;
      if (!speakOneself()) told.end?.(false);
    };
    const timer = setTimeout(instead, this.gateway.wait_ms);
    const start = (sound) => {
      begun = true;
      clearTimeout(timer);
      told.start?.(sound);
    };
    this.gateway.spoken(greeting).then((spoken) => this.gateway.play(spoken, open, { ...told, start })).catch(instead);
    return true;
  }

  /** Fall silent at once. */
  hush() {
    this.turn = null;
    this.own.hush();
    this.gateway.hush();
  }
}
