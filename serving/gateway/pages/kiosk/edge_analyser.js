/**
 * Reads expressions on this device with face-api and TensorFlow.js: in a worker, or in the page.
 *
 * Its files are served by the gateway; none comes from another host.
 */

const LIBRARY = "/static/vendor/face-api-1.7.15";
const WASM = "/static/vendor/tfjs-wasm-4.22.0/";
export const ANALYSER = { analyser: "face-api", analyser_version: "1.7.15" };

/** The detector's input, pixels: 320 finds a face of an eighth of the picture's height. */
const INPUT_PIXELS = 320;
const LEAST_SCORE = 0.4;
/** The library's words for what PHO calls otherwise. */
const NAMES = { fearful: "fear", disgusted: "disgust", surprised: "surprise" };

/** Return a function that takes an ImageBitmap and returns the faces in it. */
export async function makeAnalyser() {
  const faceapi = await import(`${LIBRARY}/face-api.esm.js`);
  if (typeof document === "undefined") settle(faceapi);
  const { tf } = faceapi;
  tf.setWasmPaths(WASM);
  // Where WebAssembly is forbidden or missing, plain JavaScript does it, some ten times slower.
  if (!(await tf.setBackend("wasm").catch(() => false))) await tf.setBackend("cpu");
  await tf.ready();
  await faceapi.nets.tinyFaceDetector.loadFromUri(LIBRARY);
  await faceapi.nets.faceExpressionNet.loadFromUri(LIBRARY);
  const options = new faceapi.TinyFaceDetectorOptions({ inputSize: INPUT_PIXELS, scoreThreshold: LEAST_SCORE });
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return async (bitmap) => {
    const { width, height } = bitmap;
    canvas.width = width;
    canvas.height = height;
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const pixels = tf.browser.fromPixels(context.getImageData(0, 0, width, height));
    try {
      const found = await faceapi.detectAllFaces(pixels, options).withFaceExpressions();
      return { width, height, faces: found.map((face) => told(face, width, height)) };
    } finally {
      pixels.dispose();
    }
  };
}

/** A worker has no document; the library asks for a canvas all the same. */
function settle(faceapi) {
  const absent = class {};
  faceapi.env.setEnv({
    Canvas: OffscreenCanvas,
    CanvasRenderingContext2D: OffscreenCanvasRenderingContext2D,
    Image: absent,
    ImageData,
    Video: absent,
    createCanvasElement: () => new OffscreenCanvas(1, 1),
    createImageElement: () => new absent(),
    createVideoElement: () => new absent(),
    fetch: (...what) => fetch(...what),
    readFile: () => Promise.reject(new Error("there are no files here")),
  });
}

function told(face, width, height) {
  const { x, y, width: wide, height: high } = face.detection.box;
  const box = { left: x / width, top: y / height, width: wide / width, height: high / height };
  const emotions = {};
  for (const [name, share] of Object.entries(face.expressions)) {
    if (typeof share === "number") emotions[NAMES[name] ?? name] = Math.min(1, Math.max(0, share));
  }
  return { box, confidence: Math.min(1, face.detection.score), emotions };
}
