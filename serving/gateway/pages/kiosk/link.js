/**
 * The link to the gateway: one WebSocket that comes back by itself.
 *
 * A report of what was shown is kept until the gateway acknowledged it, over reconnects and reloads.
 * Who was greeted before a reconnect is handed back to the gateway (`resume`), so that nobody is
 * greeted twice.
 */

const PROTOCOL = 1;
const UNANSWERED_MAX = 2;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** A refusal that lasts (another protocol, a kiosk that this key does not fit) is asked about seldom. */
const FATAL_WAIT_MS = 30_000;
const CLOCK_EVERY_MS = 5_000;
/** A cable that was pulled closes nothing: who does not answer for so long is away. */
const SILENCE_MS = 6_000;
const TICKET_TIME_LIMIT_MS = 5_000;
const REPORTS_MAX = 200;
/** Later the gateway no longer knows the decision (`dedup_horizon_ms`). */
const REPORTS_KEPT_MS = 600_000;

/** The gateway's close code where another page is this kiosk now. */
const DISPLACED = 4409;

const REPORTS = "pho.reports";
const KEY = "pho.key";

/** localStorage, or a stand-in where the browser forbids it. */
export const storage = (() => {
  try {
    localStorage.setItem("pho.test", "1");
    localStorage.removeItem("pho.test");
    return localStorage;
  } catch {
    const kept = new Map();
    return {
      getItem: (name) => kept.get(name) ?? null,
      setItem: (name, value) => void kept.set(name, value),
      removeItem: (name) => void kept.delete(name),
    };
  }
})();

/**
 * Events: "state" (this.state: "idle", "connecting", "open", "away", "key",
 * "fatal", "displaced"), and each
 * message of the gateway by its type, as CustomEvent with the message as detail.
 */
export class Link extends EventTarget {
  /** @param {() => object} introduce returns kiosk_id, language, notice and analysis for the hello. */
  constructor(introduce) {
    super();
    this.introduce = introduce;
    this.state = "idle";
    this.welcome = null;
    this.trouble = null;
    this.socket = null;
    this.resume = null;
    this.unanswered = 0;
    this.tries = 0;
    this.timer = 0;
    this.heard_at = 0;
    this.round_trip_ms = null;
    this.reports = readReports();
    addEventListener("online", () => this.again(0));
    addEventListener("offline", () => this.drop());
    addEventListener("pagehide", () => this.send({ type: "bye" }));
    setInterval(() => this.beat(), CLOCK_EVERY_MS);
  }

  get open() {
    return this.state === "open";
  }

  /** True: another shot or look may be sent. */
  get ready() {
    return this.open && this.unanswered < UNANSWERED_MAX;
  }

  start() {
    if (this.state === "idle") this.connect();
  }

  async connect() {
    clearTimeout(this.timer);
    if (this.socket) return;
    if (this.state !== "away") this.become("connecting");
    const attempt = (this.attempt = Symbol("attempt"));
    let ticket;
    try {
      ticket = await getTicket();
    } catch {
      if (attempt === this.attempt) this.failed();
      return;
    }
    if (attempt !== this.attempt || this.socket) return;
    this.kiosk_id = ticket.kiosk_id;
    if (ticket.refused) {
      this.trouble = ticket.refused;
      this.become("key");
      return;
    }
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/kiosk/socket`, ["pho.kiosk.v1", `ticket.${ticket.ticket}`]);
    this.socket = socket;
    this.unanswered = 0;
    this.heard_at = performance.now();
    socket.onopen = () => this.hello(socket);
    socket.onmessage = (event) => this.heard(socket, event.data);
    socket.onclose = (event) => this.closed(socket, event.code);
  }

  hello(socket) {
    if (socket !== this.socket) return;
    const offset = -new Date().getTimezoneOffset();
    const hello = { type: "hello", protocol: PROTOCOL, utc_offset_minutes: offset, resume: this.resume, ...this.introduce() };
    socket.send(JSON.stringify({ ...hello, sent_at_ms: Date.now() }));
  }

  heard(socket, data) {
    if (socket !== this.socket || typeof data !== "string") return;
    this.heard_at = performance.now();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    this.note(message);
    this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
  }

  /** Keep what outlives a message. */
  note(message) {
    if (message.type === "welcome") {
      this.welcome = message;
      this.tries = 0;
      this.trouble = null;
      this.become("open");
      for (const report of this.freshReports()) this.send(report.message);
      this.clock();
    } else if (message.type === "seen") {
      this.unanswered = Math.max(0, this.unanswered - 1);
    } else if (message.type === "visit") {
      this.resume = message.state === "started" ? (message.resume ?? null) : null;
    } else if (message.type === "shown") {
      this.reports = this.reports.filter((report) => report.message.decision_id !== message.decision_id);
      this.keepReports();
    } else if (message.type === "clock") {
      this.round_trip_ms = Math.max(0, Date.now() - message.sent_at_ms);
    } else if (message.type === "error") {
      this.trouble = message;
      this.fatal = message.fatal === true;
    }
  }

  closed(socket, code) {
    if (socket !== this.socket) return;
    this.socket = null;
    this.failed(code === DISPLACED);
  }

  failed(displaced = false) {
    this.unanswered = 0;
    if (displaced) {
      // Two pages that are one kiosk would take it from each other for ever.
      this.fatal = false;
      this.become("displaced");
      return;
    }
    this.become(this.fatal ? "fatal" : "away");
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.tries);
    this.tries += 1;
    // Half of it by chance: after a restart not every kiosk of a chain knocks in the same second.
    this.again(this.fatal ? FATAL_WAIT_MS : longest * (0.5 + Math.random() / 2));
    this.fatal = false;
  }

  again(wait_ms) {
    if (["idle", "key", "displaced"].includes(this.state) || this.socket) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), wait_ms);
  }

  /** Give up a socket that does not answer; it may take minutes to notice by itself. */
  drop() {
    const socket = this.socket;
    if (!socket) return;
    this.socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.failed();
  }

  beat() {
    if (!this.socket) return;
    if (performance.now() - this.heard_at > SILENCE_MS) this.drop();
    else this.clock();
  }

  clock() {
    this.send({ type: "clock", sent_at_ms: Date.now(), round_trip_ms: this.round_trip_ms });
  }

  /** Somebody touched a page that gave way to another one: it is the kiosk again. */
  wake() {
    if (this.state === "displaced") this.connect();
  }

  /** Use another key from now on. */
  use(key) {
    storage.setItem(KEY, key);
    this.state = "idle";
    this.connect();
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN && this.open) this.socket.send(JSON.stringify(message));
  }

  /** Send a JPEG taken at a time in ms; its answer is a "seen". */
  shot(at_ms, jpeg) {
    const header = new TextEncoder().encode(JSON.stringify({ type: "shot", at_ms }));
    const length = new DataView(new ArrayBuffer(4));
    length.setUint32(0, header.length);
    this.count(new Blob([length.buffer, header, jpeg]));
  }

  /** Send what an analysis on this device saw: numbers alone. */
  look(message) {
    this.count(JSON.stringify({ type: "look", ...message }));
  }

  count(data) {
    if (!this.ready || this.socket?.readyState !== WebSocket.OPEN) return;
    this.unanswered += 1;
    this.socket.send(data);
  }

  /**
   * Report that a greeting is on the screen; said again until the gateway has it in its log.
   *
   * @param {string} visit_id whose greeting it was
   * @param {object} shown decision_id, action_id, shown_at_ms, and fallback where it was our own
   */
  shown(visit_id, shown) {
    const message = { type: "shown", ...shown };
    this.reports = [...this.freshReports(), { message, kept_at_ms: Date.now() }].slice(-REPORTS_MAX);
    this.keepReports();
    // Should the acknowledgement be lost, the gateway learns from `resume` that it was shown.
    if (this.resume?.visit_id === visit_id) this.resume = { ...this.resume, shown_at_ms: shown.shown_at_ms };
    this.send(message);
  }

  freshReports() {
    const oldest = Date.now() - REPORTS_KEPT_MS;
    return this.reports.filter((report) => report.kept_at_ms > oldest);
  }

  keepReports() {
    storage.setItem(REPORTS, JSON.stringify(this.reports));
  }

  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

/** Return the headers that show this kiosk's key, where it has one. */
export function keyHeaders() {
  const key = storage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function getTicket() {
  const key = storage.getItem(KEY);
  const response = await fetch("/api/tickets", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...keyHeaders() },
    body: JSON.stringify({ scope: "kiosk" }),
    cache: "no-store",
    signal: AbortSignal.timeout(TICKET_TIME_LIMIT_MS),
  });
  if (response.status === 401 || response.status === 403) {
    const told = await response.json().catch(() => ({}));
    return { refused: { problem: told.problem ?? "", cure: told.cure ?? "", had_key: key !== null } };
  }
  if (!response.ok) throw new Error(`the gateway answered ${response.status}`);
  const { ticket } = await response.json();
  return { ticket, kiosk_id: key ? await whose() : null };
}

/** Return the kiosk that our key is of; null: of none, or nobody says. */
async function whose() {
  const response = await fetch("/api/kiosk/me", {
    headers: keyHeaders(),
    signal: AbortSignal.timeout(TICKET_TIME_LIMIT_MS),
  });
  return response.ok ? (await response.json()).kiosk_id : null;
}

function readReports() {
  try {
    return JSON.parse(storage.getItem(REPORTS) ?? "[]");
  } catch {
    return [];
  }
}
