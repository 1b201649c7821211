/** The camera: opened, read as JPEG or bitmap, watched for movement, and let go. */

const MOTION_WIDTH = 48;
const MOTION_HEIGHT = 36;
/** A pixel that changed by so much of 255 has moved: above the noise of a cheap camera at night. */
const MOVED_LEVELS = 24;
const JPEG_QUALITY = 0.9;

/** Why there is no picture: "denied", "none", "busy" or "insecure". */
export class CameraTrouble extends Error {
  constructor(reason) {
    super(`no camera: ${reason}`);
    this.reason = reason;
  }
}

const REASONS = {
  NotAllowedError: "denied", SecurityError: "denied", NotFoundError: "none", OverconstrainedError: "none",
  DevicesNotFoundError: "none",
};

export class Camera {
  /**
   * @param {HTMLVideoElement} video shows what the camera sees
   * @param {() => void} lost called when the camera goes away by itself
   */
  constructor(video, lost) {
    this.video = video;
    this.lost = lost;
    this.stream = null;
    this.canvas = document.createElement("canvas");
    this.small = document.createElement("canvas");
    this.small.width = MOTION_WIDTH;
    this.small.height = MOTION_HEIGHT;
    this.before = null;
  }

  get live() {
    return this.stream !== null && this.video.readyState >= 2 && this.video.videoWidth > 0;
  }

  /** Open it; throws CameraTrouble. */
  async open() {
    this.close();
    if (!navigator.mediaDevices?.getUserMedia) throw new CameraTrouble("insecure");
    const opening = (this.opening = Symbol("opening"));
    const wanted = { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 720 } };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch (error) {
      throw new CameraTrouble(REASONS[error.name] ?? "busy");
    }
    if (opening !== this.opening) {
      // It was opened twice, or closed meanwhile: this one nobody waits for any more.
      for (const track of stream.getTracks()) track.stop();
      return;
    }
    this.stream = stream;
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      if (this.stream !== stream) return;
      this.close();
      this.lost();
    });
    this.video.srcObject = stream;
    // Rejected when it is closed again at once; then nobody needs it.
    await this.video.play().catch(() => undefined);
  }

  /** Let it go: its light goes out. */
  close() {
    this.opening = null;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
    this.before = null;
  }

  /** Return the picture of now as a JPEG of a width in pixels. */
  jpeg(width) {
    this.draw(width);
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
  }

  /** Return the picture of now as a bitmap, for an analysis on this device. */
  bitmap(width) {
    this.draw(width);
    return createImageBitmap(this.canvas);
  }

  draw(width) {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, width / videoWidth);
    this.canvas.width = Math.round(videoWidth * scale);
    this.canvas.height = Math.round(videoHeight * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
  }

  /** Return the share of the picture that changed since the last call, 0..1. */
  motion() {
    const context = this.small.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.video, 0, 0, MOTION_WIDTH, MOTION_HEIGHT);
    const { data } = context.getImageData(0, 0, MOTION_WIDTH, MOTION_HEIGHT);
    const now = new Uint8Array(MOTION_WIDTH * MOTION_HEIGHT);
    let moved = 0;
    for (let place = 0; place < now.length; place += 1) {
      now[place] = (data[4 * place] * 77 + data[4 * place + 1] * 150 + data[4 * place + 2] * 29) >> 8;
      if (this.before && Math.abs(now[place] - this.before[place]) > MOVED_LEVELS) moved += 1;
    }
    const known = this.before !== null;
    this.before = now;
    return known ? moved / now.length : 0;
  }
}

/**
 * Greets by itself while the gateway is away: somebody came when the picture moves after a calm.
 *
 * Nothing is recognised, nothing is counted: a share of changed pixels is all it knows.
 */
export class Doorbell {
  constructor({ moved = 0.06, calm_ms = 4000, again_ms = 15000 } = {}) {
    this.moved = moved;
    this.calm_ms = calm_ms;
    this.again_ms = again_ms;
    this.restless_at = -Infinity;
    this.rang_at = -Infinity;
  }

  /** Begin to feel at a time in ms: whoever stands there now was greeted already. */
  rest(now) {
    this.restless_at = now;
  }

  /** Take in one share of motion at a time in ms; true: somebody came. */
  feel(share, now) {
    if (share < this.moved) return false;
    const calm = now - this.restless_at >= this.calm_ms;
    this.restless_at = now;
    if (!calm || now - this.rang_at < this.again_ms) return false;
    this.rang_at = now;
    return true;
  }
}
