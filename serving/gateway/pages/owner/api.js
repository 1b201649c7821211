/** Asks the gateway: with the owner's key where there is one, which lives in this tab alone. */

const KEY = "pho.owner.key";
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 15_000;
/** The gateway speaks every 10 s; who is silent for so long is away. */
const SILENCE_MS = 25_000;

/** Why an answer did not come: status 0 where nobody answered. */
export class Refused extends Error {
  constructor(status, problem, cure) {
    super(problem);
    this.status = status;
    this.cure = cure;
  }
  get needsKey() {
    return this.status === 401 || this.status === 403;
  }
}

let key = readKey();

function readKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage is forbidden here: the key lives as long as the page
  }
}

/** Use a key from now on. */
export function useKey(text) {
  key = text;
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    // as above
  }
}

async function ask(path, options = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let answer;
  try {
    answer = await fetch(`/api/owner/${path}`, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refused(0, "The gateway does not answer", "");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, told.problem ?? `The gateway says ${answer.status}`, told.cure ?? "");
}

/** Return the document at a path below /api/owner/. */
export const read = async (path, options) => (await ask(path, options)).json();

/** Follow the summaries of a loop for ever; tells of each, and of every time nobody answers. */
export class Live extends EventTarget {
  /** @param {string|null} loop null: the kiosk's own. */
  constructor(loop) {
    super();
    this.loop = loop;
    this.ended = false;
    this.wait = FIRST_WAIT_MS;
    this.hurry = () => {};
    this.run();
  }

  /** Let go of it. */
  close() {
    this.ended = true;
    this.abort?.abort();
    this.hurry();
  }

  /** Try again now. */
  again() {
    this.wait = FIRST_WAIT_MS;
    this.hurry();
  }

  async run() {
    while (!this.ended) {
      try {
        await this.follow();
      } catch (error) {
        if (this.ended) return;
        const refused = error instanceof Refused ? error : new Refused(0, "The gateway does not answer", "");
        this.dispatchEvent(new CustomEvent("away", { detail: refused }));
        if (refused.needsKey) return;
      }
      // Half of the wait is chance: after a restart not all pages come at once.
      const pause = this.wait * (0.5 + Math.random() / 2);
      this.wait = Math.min(LONGEST_WAIT_MS, this.wait * 2);
      await new Promise((done) => {
        this.hurry = done;
        setTimeout(done, pause);
      });
    }
  }

  async follow() {
    this.abort = new AbortController();
    const query = this.loop === null ? "" : `?loop=${encodeURIComponent(this.loop)}`;
    let watch = 0;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => this.abort.abort(), SILENCE_MS);
    };
    try {
      heard();
      const answer = await ask(`live${query}`, { signal: this.abort.signal });
      let text = "";
      for await (const piece of pieces(answer.body)) {
        heard();
        text += piece;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) this.tell(event);
      }
      throw new Refused(0, "The gateway ended the connection", "");
    } finally {
      clearTimeout(watch);
    }
  }

  tell(event) {
    const found = /^event: (\w+)\ndata: (.*)$/.exec(event);
    if (!found) return;
    const detail = JSON.parse(found[2]);
    if (found[1] === "away") throw new Refused(503, detail.problem, detail.cure);
    this.wait = FIRST_WAIT_MS;
    this.dispatchEvent(new CustomEvent("summary", { detail }));
  }
}

async function* pieces(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
