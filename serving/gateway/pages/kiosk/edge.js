/** Analysis on this device: in a worker where the browser can, so that the avatar never stutters. */

import { makeAnalyser } from "/kiosk/edge_analyser.js";

const START_TIME_LIMIT_MS = 30_000;

/** Return an object whose `look(bitmap)` gives {width, height, faces}; throws where nothing works. */
export async function startEdge() {
  try {
    return await inWorker();
  } catch {
    const analyse = await makeAnalyser();
    return { look: analyse, place: "page" };
  }
}

function inWorker() {
  return new Promise((resolve, reject) => {
    const worker = new Worker("/kiosk/edge_worker.js", { type: "module" });
    const waiting = new Map();
    let count = 0;
    const giveUp = (problem) => {
      worker.terminate();
      reject(new Error(problem));
    };
    const timer = setTimeout(() => giveUp("the worker did not start"), START_TIME_LIMIT_MS);
    const look = (bitmap) => new Promise((found, failed) => {
      count += 1;
      waiting.set(count, [found, failed]);
      worker.postMessage({ id: count, bitmap }, [bitmap]);
    });
    worker.onerror = (event) => giveUp(event.message ?? "the worker cannot be loaded");
    worker.onmessage = ({ data }) => {
      if (data.id !== undefined) {
        const [found, failed] = waiting.get(data.id);
        waiting.delete(data.id);
        if (data.found) found(data.found);
        else failed(new Error(data.failed));
        return;
      }
      clearTimeout(timer);
      if (data.ready) resolve({ look, place: "worker" });
      else giveUp(data.failed);
    };
  });
}
