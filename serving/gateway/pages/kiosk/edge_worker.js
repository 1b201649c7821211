/** The worker of the analysis on this device: bitmaps in, numbers out. */

import { makeAnalyser } from "/kiosk/edge_analyser.js";

const analyser = makeAnalyser();
analyser.then(() => postMessage({ ready: true }), (error) => postMessage({ failed: String(error) }));

onmessage = async ({ data }) => {
  try {
    postMessage({ id: data.id, found: await (await analyser)(data.bitmap) });
  } catch (error) {
    postMessage({ id: data.id, failed: String(error) });
  }
};
