/** What each greeting earns: bars sorted by it, with whiskers where the truth may lie. */

import { axis, base, colour, draw } from "./charts.js";
import { at, fill, make, say, table } from "./dom.js";
import { count, measure, nameOf, percent, tells } from "./words.js";

const ROW_PX = 46;

/** The greetings that were ever given or are on offer, what earns most first. */
export function sorted(summary, name) {
  const known = summary.greetings.filter((greeting) => greeting.enabled || greeting.given);
  const worth = (greeting) => greeting[name]?.value ?? -Infinity;
  return known.sort((one, other) => worth(other) - worth(one) || one.action_id.localeCompare(other.action_id));
}

/** Show the greetings. */
export function showGreetings(summary, name) {
  const what = measure(name, summary);
  const greetings = sorted(summary, name);
  const early = greetings.filter((greeting) => greeting.given && !tells(greeting[name], what));
  const judged = greetings.some((greeting) => greeting[name]);
  say(
    at("greetings-more"),
    judged
      ? `Of those who got it: ${what.title}. Lines show where the truth may lie` +
          (early.length ? "; pale ones are too early to say." : ".") +
          " Who got which was chosen by PHO, so this is no contest between equals."
      : "No reaction is judged yet.",
  );
  const words = greetings
    .filter((greeting) => greeting[name])
    .map((greeting) => `${nameOf(greeting.action_id)} ${what.text(greeting[name].value)}, ${what.range(greeting[name])}`)
    .join("; ");
  const shown = greetings.filter((greeting) => greeting[name]);
  draw(at("greetings-chart"), `${what.title}: ${words}`, () => options(shown, name, what), shown.length * ROW_PX + 34);
  fill(at("greetings-table"), numbers(greetings, name, what));
}

function options(greetings, name, what) {
  const ends = greetings.flatMap((greeting) => [greeting[name].low, greeting[name].high]);
  const low = Math.min(0, ...ends);
  const high = Math.max(...ends, low + 0.01);
  return {
    ...base(),
    grid: { left: 8, right: 56, top: 4, bottom: 28, containLabel: false },
    tooltip: {
      ...base().tooltip,
      trigger: "item",
      formatter: ({ dataIndex }) => hint(greetings[dataIndex], name, what),
    },
    xAxis: {
      ...axis(),
      type: "value",
      min: name === "smile" ? 0 : Math.max(what.low, low),
      max: name === "smile" ? Math.min(1, Math.ceil(high * 10) / 10) : Math.min(what.high, high),
      axisLabel: { ...axis().axisLabel, formatter: what.axis, showMaxLabel: false },
    },
    yAxis: { ...axis(), type: "category", inverse: true, data: greetings.map((each) => each.action_id), axisLabel: { show: false }, axisLine: { show: false } },
    series: [
      {
        id: "bars",
        type: "bar",
        barWidth: 12,
        data: greetings.map((greeting) => ({
          value: greeting[name].value,
          itemStyle: {
            // Pale by its colour, since an opacity would fade the name above it as well.
            color: colour(greeting.baseline ? "--control" : "--learned") + (tells(greeting[name], what) ? "" : "66"),
            borderRadius: 6,
          },
        })),
        // Above its bar, from the left edge: names of any length fit on a phone.
        label: {
          show: true,
          position: [0, -17],
          distance: 0,
          color: colour("--ink"),
          fontSize: 13.5,
          formatter: ({ dataIndex }) => title(greetings[dataIndex]),
        },
      },
      whiskers(greetings, name, what),
    ],
  };
}

const title = (greeting) => `${nameOf(greeting.action_id)}${greeting.baseline ? " (the plain one)" : ""}${greeting.enabled ? "" : " (no longer offered)"}`;

function hint(greeting, name, what) {
  const mean = greeting[name];
  const early = tells(mean, what) ? "" : "\nToo early to say";
  return `${greeting.text || nameOf(greeting.action_id)}\n${what.text(mean.value)} (${what.range(mean)}), ${count(mean.n)} visits${early}`;
}

function whiskers(greetings, name, what) {
  return {
    id: "whiskers",
    type: "custom",
    silent: true,
    z: 5,
    data: greetings.map((greeting, place) => [place, greeting[name].low, greeting[name].high, greeting[name].value]),
    encode: { x: [1, 2], y: 0 },
    renderItem: (_params, api) => {
      const place = api.value(0);
      const [left, y] = api.coord([api.value(1), place]);
      const [right] = api.coord([api.value(2), place]);
      const stroke = { stroke: colour("--ink"), lineWidth: 1.6, fill: "none" };
      const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: stroke });
      return {
        type: "group",
        children: [
          line(left, y, right, y),
          line(left, y - 5, left, y + 5),
          line(right, y - 5, right, y + 5),
          {
            type: "text",
            style: { text: what.text(api.value(3)), x: right + 7, y, verticalAlign: "middle", fill: colour("--ink"), fontSize: 13.5, fontWeight: 600 },
          },
        ],
      };
    },
  };
}

function numbers(greetings, name, what) {
  const rows = greetings.map((greeting) => {
    const mean = greeting[name];
    const words = greeting.text ? make("small", {}, `“${greeting.text}”`) : null;
    return [
      make("span", {}, title(greeting), words),
      count(greeting.given),
      mean ? `${what.text(mean.value)}` : "",
      mean ? what.range(mean) : "",
      mean ? (tells(mean, what) ? "" : "too early to say") : "not given yet",
      greeting.not_seen === null ? "" : `${percent(greeting.not_seen)}${greeting.not_seen_alarm ? " (unlike the others)" : ""}`,
    ];
  });
  const heads = ["Greeting", "Given", "Earns", "95 % interval", "", "Reaction not seen"];
  return table(`What each greeting earns: ${what.title}`, heads, rows);
}
