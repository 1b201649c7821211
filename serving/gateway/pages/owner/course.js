/** How it went: what was chosen beside the plain greeting, from the first visitor to the newest. */

import { axis, base, colour, draw } from "./charts.js";
import { at, fill, say, table } from "./dom.js";
import { count, measure, time, timeText } from "./words.js";

/** Show the course. */
export function showCourse(summary, name) {
  const what = measure(name, summary);
  const steps = summary.course
    .filter((step) => step[`learned_${name}`])
    .map((step) => ({ from_ms: step.from_ms, to_ms: step.to_ms, ...step[`learned_${name}`] }));
  // Along visits, not along time: a night without anybody is no part of how it went.
  let visits = 0;
  for (const step of steps) {
    step.middle = visits + step.n / 2;
    visits += step.n;
  }
  const now = summary.now_ms;
  const plain = summary[name].control;
  const few = steps.length < 2;
  say(
    at("course-more"),
    few
      ? "The course shows after some dozens of visitors."
      : `From the first visitor to the newest, ${what.title}. The band is where the truth of each step may lie` +
          (plain ? "; the dashed line is the plain greeting, all in all." : "."),
  );
  at("course-chart").hidden = few;
  if (!few) {
    const [first, last] = [steps[0], steps.at(-1)];
    const words = `It began with ${what.text(first.value)} and came to ${what.text(last.value)}`;
    draw(at("course-chart"), words, () => options(steps, plain, what, now), 260);
  }
  const rows = steps.map((step) => [time(step.from_ms, now), time(step.to_ms, now), count(step.n), what.text(step.value), what.range(step)]).reverse();
  fill(at("course-table"), table("Chosen greetings, step by step, newest first", ["From", "To", "Visits", "Earns", "95 % interval"], rows));
}

function options(steps, plain, what, now) {
  const line = (end) => steps.map((step) => [step.middle, step[end]]);
  const band = { type: "line", stack: "band", stackStrategy: "all", symbol: "none", silent: true, lineStyle: { opacity: 0 }, tooltip: { show: false } };
  return {
    ...base(),
    grid: { left: 46, right: 16, top: 16, bottom: 46 },
    tooltip: {
      ...base().tooltip,
      trigger: "axis",
      formatter: (points) => {
        const step = steps[points[0].dataIndex];
        return `${timeText(step.from_ms, now)} to ${timeText(step.to_ms, now)}\n${what.text(step.value)} (${what.range(step)}), ${count(step.n)} visits`;
      },
    },
    xAxis: {
      ...axis(),
      type: "value",
      splitLine: { show: false },
      min: 0,
      max: Math.ceil(steps.at(-1).middle + steps.at(-1).n / 2),
      name: "chosen greetings",
      nameLocation: "end",
      nameGap: 0,
      nameTextStyle: { align: "right", verticalAlign: "top", padding: [26, 0, 0, 0], color: colour("--ink-soft") },
      axisLabel: { ...axis().axisLabel, formatter: (value) => count(value), showMaxLabel: false },
    },
    yAxis: {
      ...axis(),
      type: "value",
      min: Math.max(what.low, Math.min(...steps.map((step) => step.low))),
      max: Math.min(what.high, Math.max(...steps.map((step) => step.high))),
      axisLabel: { ...axis().axisLabel, formatter: what.axis, showMinLabel: false, showMaxLabel: false },
      splitNumber: 4,
    },
    series: [
      { ...band, id: "low", data: line("low") },
      { ...band, id: "band", data: steps.map((step) => [step.middle, step.high - step.low]), areaStyle: { color: colour("--learned"), opacity: 0.16 } },
      {
        id: "learned",
        type: "line",
        data: line("value"),
        symbolSize: 7,
        lineStyle: { color: colour("--learned"), width: 3 },
        itemStyle: { color: colour("--learned") },
        markLine: plain
          ? {
              silent: true,
              symbol: "none",
              lineStyle: { color: colour("--control"), type: "dashed", width: 2 },
              label: { formatter: `plain ${what.text(plain.value)}`, position: "insideEndBottom", color: colour("--ink-soft") },
              data: [{ yAxis: plain.value }],
            }
          : undefined,
      },
    ],
  };
}
