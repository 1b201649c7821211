/** Numbers and times as an owner reads them. Times are local; UTC stands behind each. */

import { make } from "./dom.js";

const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

export const count = (number) => whole.format(number);
export const inHundred = (share) => whole.format(Math.round(share * 100));
export const percent = (share) => {
  const value = share * 100;
  return `${value > 0 && value < 10 ? Number(value.toFixed(1)) : Math.round(value)} %`;
};
export const signed = (value, digits = 2) =>
  `${value < 0 ? "−" : value > 0 ? "+" : "±"}${Math.abs(value).toFixed(digits)}`;
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A duration, ms, in the unit that fits it. */
export function lasting(ms) {
  if (ms === null) return "not known";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`;
}

const utc = (ms) => `${new Date(ms).toISOString().replace("T", " ").slice(0, 19)} UTC`;
const sameDay = (one, other) => new Date(one).toDateString() === new Date(other).toDateString();

/** The time of day; with its day, where that is not the day of `now`. */
export function timeText(ms, now, exact = false) {
  const text = (exact ? seconds : clock).format(ms);
  if (sameDay(ms, now)) return text;
  const far = Math.abs(now - ms) > 300 * 86_400_000;
  return `${(far ? longDay : day).format(ms)}, ${text}`;
}

/** The same as an element; UTC on hover. */
export const time = (ms, now, exact = false) =>
  make("time", { datetime: new Date(ms).toISOString(), title: utc(ms) }, timeText(ms, now, exact));

/** A greeting's id as a name: "good_day" is "Good day". */
export const nameOf = (id) => {
  const text = id.replace(/[_-]+/g, " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
};

/**
 * How a measure is told.
 *
 * Smiles are shares of visitors; happiness gained is the reward, from −1 to 1 where faces are seen.
 */
export function measure(name, summary) {
  const width = summary.reward_high - summary.reward_low;
  if (name === "smile") {
    return {
      name,
      title: "visitors of 100 who smile after it",
      low: 0,
      high: 1,
      text: (value) => inHundred(value),
      range: (mean) => `${inHundred(mean.low)} to ${inHundred(mean.high)}`,
      axis: (value) => inHundred(value),
    };
  }
  const digits = width <= 4 ? 2 : width <= 40 ? 1 : 0;
  return {
    name,
    title: summary.sees_faces ? "happiness after less happiness before" : "reward",
    low: summary.reward_low,
    high: summary.reward_high,
    text: (value) => signed(value, digits),
    range: (mean) => `${signed(mean.low, digits)} to ${signed(mean.high, digits)}`,
    axis: (value) => (value === 0 ? "0" : signed(value, digits)),
  };
}

/** Whether an interval is narrow enough to say anything: at most a fifth of what there is. */
export const tells = (mean, what) => mean !== null && mean.high - mean.low <= 0.4 * (what.high - what.low);
