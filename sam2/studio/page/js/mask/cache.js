import { Shape } from "./shape.js";

const RANGE = 24; // frames fetched at once
const SHAPES = 4e7; // pixels of bounding boxes kept drawn, about 160 MB

/**
 * Masks of the session by frame. What is stale is still shown until the newer one is here. `changed(frame)` is
 * called when what a frame shows has changed.
 */
export class MaskCache {
  #frames = new Map(); // frame -> {stale, objects: Map(id -> {mask, iou, presence})}
  #shapes = new Map(); // mask -> Shape, oldest first
  #pixels = 0;
  #asked = new Map(); // first frame of a range -> generation it was asked in
  #generation = 0;

  constructor(fetchRange, changed) {
    this.fetchRange = fetchRange;
    this.changed = changed;
  }

  clear() {
    this.#frames.clear();
    this.#shapes.clear();
    this.#pixels = 0;
    this.outdate();
  }

  /** Everything may have changed on the server. */
  outdate() {
    this.#generation++;
    this.#asked.clear();
    for (const entry of this.#frames.values()) entry.stale = true;
  }

  objects(frame) {
    return this.#frames.get(frame)?.objects ?? new Map();
  }

  known(frame) {
    const entry = this.#frames.get(frame);
    return entry !== undefined && !entry.stale;
  }

  get(frame, object) {
    return this.objects(frame).get(object) ?? null;
  }

  /** All masks of a frame. */
  put(frame, objects) {
    this.#frames.set(frame, {
      stale: false,
      objects: new Map(objects.filter((result) => result.mask).map((result) => [result.id, result])),
    });
    this.changed(frame);
  }

  /** The mask of one object of a frame (null: none any more). */
  putOne(frame, id, result) {
    const entry = this.#frames.get(frame) ?? { stale: true, objects: new Map() }; // others are not known
    if (result?.mask) entry.objects.set(id, { id, ...result });
    else entry.objects.delete(id);
    this.#frames.set(frame, entry);
    this.changed(frame);
  }

  dropObject(id) {
    for (const entry of this.#frames.values()) entry.objects.delete(id);
  }

  shape(mask) {
    let shape = this.#shapes.get(mask);
    if (!shape) {
      shape = new Shape(mask);
      this.#pixels += weight(shape);
    }
    this.#shapes.delete(mask);
    this.#shapes.set(mask, shape);
    for (const [oldest, old] of this.#shapes) {
      if (this.#pixels < SHAPES || oldest === mask) break;
      this.#shapes.delete(oldest);
      this.#pixels -= weight(old);
    }
    return shape;
  }

  /** Fetches the ranges around a frame that are not known yet. */
  want(frame, frames, direction = 1) {
    const start = Math.floor(frame / RANGE) * RANGE;
    this.#ask(start, frames);
    const next = start + direction * RANGE;
    if (next >= 0 && next < frames) this.#ask(next, frames);
  }

  async #ask(first, frames) {
    if (this.#asked.get(first) === this.#generation) return;
    const last = Math.min(frames, first + RANGE) - 1;
    let complete = true;
    for (let frame = first; frame <= last && complete; frame++) complete = this.known(frame);
    if (complete) return;
    const generation = this.#generation;
    this.#asked.set(first, generation);
    try {
      const answers = await this.fetchRange(first, last);
      if (generation !== this.#generation) return;
      const given = new Map(answers.map((answer) => [answer.frame, answer.objects]));
      for (let frame = first; frame <= last; frame++) {
        if (!this.known(frame)) this.put(frame, given.get(frame) ?? []);
      }
    } catch {
      if (generation === this.#generation) this.#asked.delete(first);
    }
  }
}

const weight = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
