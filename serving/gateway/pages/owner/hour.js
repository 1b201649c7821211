/** The last hour as it goes: every minute's visits, and what became of them. */

import { axis, base, colour, draw } from "./charts.js";
import { at, fill, say, table } from "./dom.js";
import { plural, time, timeText } from "./words.js";

const KINDS = [
  ["smiles", "smiled", "--smile"],
  ["no_smile", "did not smile", "--plain"],
  ["not_seen", "reaction not seen", "--faint"],
  ["not_greeted", "left before the greeting", "--edge-strong"],
  ["open", "still there", "--open"],
];

/** Show the hour. */
export function showHour(summary) {
  const { hour, now_ms: now } = summary;
  const words = hour.visits
    ? `${plural(hour.visits, "visit")}, ${plural(hour.smiles, "smile")}.`
    : "Nobody came in this hour.";
  const when = hour.live
    ? ""
    : ` It is the last one in the log, up to ${timeText(hour.to_ms, now)}; nobody came since.`;
  say(at("hour-more"), words + when);
  draw(at("hour-chart"), `Visits a minute. ${words}`, () => options(hour), 170);
  const rows = hour.minutes
    .filter((minute) => minute.visits)
    .reverse()
    .map((minute) => [
      time(minute.at_ms, now),
      String(minute.visits),
      ...KINDS.map(([kind]) => String(minute[kind])),
      minute.reward === null ? "" : minute.reward.toFixed(2),
    ]);
  fill(at("hour-table"), table("Visits a minute, newest first", ["Minute", "Visits", ...KINDS.map((each) => each[1]), "Mean reward"], rows));
}

function options(hour) {
  return {
    ...base(),
    grid: { left: 34, right: 8, top: 30, bottom: 24 },
    legend: {
      top: 0,
      left: 0,
      itemWidth: 12,
      itemHeight: 12,
      textStyle: { color: colour("--ink-soft"), fontSize: 13 },
      data: KINDS.filter(([kind]) => hour.minutes.some((minute) => minute[kind])).map((each) => each[1]),
    },
    tooltip: { ...base().tooltip, trigger: "axis", axisPointer: { type: "shadow" } },
    xAxis: {
      ...axis(),
      type: "category",
      data: hour.minutes.map((minute) => timeText(minute.at_ms, hour.to_ms - 1)),
      axisLabel: { ...axis().axisLabel, interval: (place) => place % 10 === 9 },
    },
    yAxis: { ...axis(), type: "value", minInterval: 1, max: ({ max }) => (max < 4 ? 4 : null), splitNumber: 2 },
    series: KINDS.map(([kind, name, what]) => ({
      id: kind,
      name,
      type: "bar",
      stack: "visits",
      barCategoryGap: "18%",
      itemStyle: { color: colour(what), borderRadius: 2 },
      data: hour.minutes.map((minute) => minute[kind] || null),
    })),
  };
}
