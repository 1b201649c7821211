/** Pictures by Apache ECharts, served by the gateway; where it is not fetched, tables stand alone. */

const LIBRARY = "/static/vendor/echarts/echarts.esm.min.mjs";
const dark = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

let library = null;
const drawn = new Map();

/** Load the library; return whether it is there. */
export async function loadCharts() {
  try {
    library = await import(LIBRARY);
  } catch {
    library = null;
  }
  document.documentElement.dataset.charts = library ? "drawn" : "tables";
  return library !== null;
}

/** A colour of the page's own, such as "--learned". */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** What all pictures share. */
export const base = () => ({
  animation: !still.matches,
  animationDuration: 500,
  animationDurationUpdate: 400,
  textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colour("--ink-soft"), fontSize: 13 },
  // As text drawn in the picture: as HTML it would carry styles, which the page forbids.
  tooltip: {
    renderMode: "richText",
    confine: true,
    backgroundColor: colour("--card"),
    borderColor: colour("--edge"),
    textStyle: { color: colour("--ink"), fontSize: 13 },
  },
});

/** What all axes share. */
export const axis = () => ({
  axisLine: { lineStyle: { color: colour("--edge") } },
  axisTick: { show: false },
  axisLabel: { color: colour("--ink-soft"), fontSize: 13, hideOverlap: true },
  splitLine: { lineStyle: { color: colour("--line") } },
});

/**
 * Draw a picture, or draw it anew.
 *
 * @param {HTMLElement} place where.
 * @param {string} words what it shows, for who hears it.
 * @param {() => object} options made again when the colours change.
 * @param {number} [height] px.
 */
export function draw(place, words, options, height) {
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", words);
  if (!library) return;
  if (height) place.style.height = `${height}px`;
  let known = drawn.get(place);
  if (!known) {
    known = { chart: library.init(place, null, { renderer: "canvas" }) };
    drawn.set(place, known);
    new ResizeObserver(() => known.chart.resize()).observe(place);
  }
  known.options = options;
  known.chart.resize();
  known.chart.setOption(options(), { notMerge: false, replaceMerge: ["series"] });
}

function drawAll() {
  for (const { chart, options } of drawn.values()) chart.setOption(options(), { notMerge: true });
}
dark.addEventListener("change", drawAll);
still.addEventListener("change", drawAll);
