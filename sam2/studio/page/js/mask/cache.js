import { Shape } from "./shape.js";

const RANGE = 24; // frames fetched at once
const SHAPES = 4e7; // pixels of bounding boxes kept drawn, about 160 MB

/**
 * Masks of the session by frame. What is stale is still shown until the newer one is here. Answers and events
 * come two ways and overtake each other: of two masks of an object that of the higher revision stays, and one
 * that the server has not answered yet is the newest. `changed(frame)` is called when what a frame shows has
 * changed.
 */
export class MaskCache {
  // frame -> {stale, objects: Map(id -> {mask, iou, presence}), edited: Map(id -> revision)}
  #frames = new Map();
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
    for (const entry of this.#frames.values()) {
      entry.stale = true;
      entry.edited.clear();
    }
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

  /** All masks of a frame, as they were at a revision. */
  put(frame, objects, revision) {
    const shown = new Map(objects.filter((result) => result.mask).map((result) => [result.id, result]));
    const before = this.#entry(frame);
    for (const [id, edit] of before.edited) {
      if (edit <= revision) before.edited.delete(id);
      else if (before.objects.has(id)) shown.set(id, before.objects.get(id));
      else shown.delete(id);
    }
    this.#frames.set(frame, { stale: false, objects: shown, edited: before.edited });
    this.changed(frame);
  }

  /** The mask of one object of a frame (null: none any more), of the answer's revision or not answered yet. */
  putOne(frame, id, { revision = Infinity, ...result }) {
    const entry = this.#entry(frame);
    if (result.mask) entry.objects.set(id, { id, ...result });
    else entry.objects.delete(id);
    entry.edited.set(id, revision);
    this.#frames.set(frame, entry);
    this.changed(frame);
  }

  /** A frame's entry; of one that is not known others may have masks. */
  #entry(frame) {
    return this.#frames.get(frame) ?? { stale: true, objects: new Map(), edited: new Map() };
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
      for (const { frame, objects, revision } of answers) {
        if (!this.known(frame)) this.put(frame, objects, revision);
      }
    } catch {
      if (generation === this.#generation) this.#asked.delete(first);
    }
  }
}

const weight = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
