import { frameUrl } from "../core/api.js";

const BUDGET = 192e6; // bytes of decoded frames
const AT_ONCE = 3; // more would only queue in the browser, before what is wanted next

/** Frames of the medium as bitmaps, fetched ahead of need, the least recently used dropped first. */
export class Frames {
  #ready = new Map(); // "frame@width" -> ImageBitmap
  #loading = new Map(); // "frame@width" -> AbortController
  #queue = [];
  #failed = new Set();

  constructor(session, changed, failed) {
    this.session = session;
    this.changed = changed;
    this.failed = failed;
    this.width = session.width;
    this.wanted = 0;
    this.latest = null; // the frame that came last of those that were wanted
  }

  /** Frames are fetched no larger than they are shown: in steps, so that a resized window asks little anew. */
  fit(pixels, hurried) {
    let width = this.session.width;
    if (hurried) pixels /= 2; // sharp again where the user comes to rest
    while (width / 2 >= pixels && width / 2 >= 320) width = Math.ceil(width / 2);
    this.width = width;
  }

  /** The sharpest bitmap of a frame that is here. */
  get(frame) {
    const bitmap = this.#ready.get(`${frame}@${this.width}`);
    if (bitmap) {
      this.#touch(`${frame}@${this.width}`, bitmap);
      return bitmap;
    }
    for (const [key, other] of this.#ready) if (key.startsWith(`${frame}@`)) return other;
    return null;
  }

  has(frame) {
    return this.#ready.has(`${frame}@${this.width}`);
  }

  /** Asks for `frame` first, then for those ahead; what was asked earlier and is not begun is forgotten. */
  want(frame, direction, ahead) {
    const last = this.session.frames - 1;
    this.wanted = frame;
    this.#queue = [];
    for (let step = 0; step <= ahead; step++) {
      const next = frame + step * direction;
      const key = `${next}@${this.width}`;
      if (next < 0 || next > last || this.#ready.has(key) || this.#failed.has(key)) continue;
      if (!this.#loading.has(key)) this.#queue.push([key, next, this.width]);
    }
    this.#pump();
  }

  #pump() {
    while (this.#queue.length && this.#loading.size < AT_ONCE) {
      const [key, frame, width] = this.#queue.shift();
      this.#load(key, frame, width);
    }
  }

  async #load(key, frame, width) {
    const stop = new AbortController();
    const wanted = frame === this.wanted;
    this.#loading.set(key, stop);
    try {
      const response = await fetch(frameUrl(this.session.id, frame, width), { signal: stop.signal });
      if (!response.ok) throw new Error((await response.json()).detail);
      this.#touch(key, await createImageBitmap(await response.blob()));
      if (wanted) this.latest = frame;
      if (wanted || frame === this.wanted) this.changed();
    } catch (error) {
      if (error.name !== "AbortError") {
        this.#failed.add(key);
        setTimeout(() => this.#failed.delete(key), 2000);
        this.failed(error);
      }
    } finally {
      this.#loading.delete(key);
      this.#pump();
    }
  }

  #touch(key, bitmap) {
    this.#ready.delete(key);
    this.#ready.set(key, bitmap);
    const most = Math.max(3, Math.floor(BUDGET / (bitmap.width * bitmap.height * 4)));
    for (const [oldest, old] of this.#ready) {
      if (this.#ready.size <= most) break;
      this.#ready.delete(oldest);
      old.close();
    }
  }

  close() {
    this.#queue = [];
    for (const stop of this.#loading.values()) stop.abort();
    for (const bitmap of this.#ready.values()) bitmap.close();
    this.#ready.clear();
  }
}
