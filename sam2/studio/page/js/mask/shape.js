import { areaOf, spansOf } from "./rle.js";

const MOST_PIXELS = 4e6; // a tint larger than this is drawn from every second (fourth, …) pixel

/** One mask, ready to be drawn: a tint of its bounding box and an outline that is sharp at any zoom. */
export class Shape {
  #tints = new Map();
  #outline = null;

  constructor(mask) {
    this.mask = mask;
    this.area = areaOf(mask);
    this.spans = spansOf(mask);
    this.box = boxOf(this.spans);
  }

  get empty() {
    return this.area === 0;
  }

  /** Canvas of the bounding box, filled with `color` ("#rrggbb") where the mask is. */
  tint(color) {
    if (!this.#tints.has(color)) {
      this.#tints.clear(); // one colour at a time: an object rarely changes its colour
      this.#tints.set(color, fill(this.spans, this.box, color));
    }
    return this.#tints.get(color);
  }

  outline() {
    this.#outline ??= outlineOf(this.spans);
    return this.#outline;
  }
}

function boxOf(spans) {
  if (!spans.length) return [0, 0, 0, 0];
  let top = Infinity;
  let bottom = 0;
  for (let at = 0; at < spans.length; at += 3) {
    top = Math.min(top, spans[at + 1]);
    bottom = Math.max(bottom, spans[at + 2]);
  }
  return [spans[0], top, spans[spans.length - 3] + 1, bottom];
}

function fill(spans, [left, top, right, bottom], color) {
  let step = 1;
  while (((right - left) * (bottom - top)) / (step * step) > MOST_PIXELS) step *= 2;
  const width = Math.ceil((right - left) / step);
  const height = Math.ceil((bottom - top) / step);
  const canvas = new OffscreenCanvas(Math.max(1, width), Math.max(1, height));
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const value = parseInt(color.slice(1), 16);
  const ink = 0xff000000 | ((value & 255) << 16) | (value & 0xff00) | (value >> 16);
  for (let at = 0; at < spans.length; at += 3) {
    const x = spans[at] - left;
    if (x % step) continue;
    const end = Math.ceil((spans[at + 2] - top) / step);
    for (let y = Math.ceil((spans[at + 1] - top) / step); y < end; y++) pixels[y * width + x / step] = ink;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Values that are in one of two sorted lists but not in both. */
function difference(one, other) {
  const out = [];
  let i = 0;
  let j = 0;
  while (i < one.length || j < other.length) {
    if (j === other.length || one[i] < other[j]) out.push(one[i++]);
    else if (i === one.length || other[j] < one[i]) out.push(other[j++]);
    else {
      i++;
      j++;
    }
  }
  return out;
}

/**
 * Edges between pixels, as a path. A column is the sorted list of the heights at which it enters or leaves
 * the mask, so two neighbours differ between consecutive values of the difference of their lists.
 */
function outlineOf(spans) {
  const path = new Path2D();
  let before = [];
  let open = new Map(); // height of a horizontal edge -> where it began
  let x = spans.length ? spans[0] : 0;
  const upright = (at, one, other) => {
    const ends = difference(one, other);
    for (let index = 0; index < ends.length; index += 2) {
      path.moveTo(at, ends[index]);
      path.lineTo(at, ends[index + 1]);
    }
  };
  const level = (at, column) => {
    const now = new Map();
    for (const y of column) now.set(y, open.get(y) ?? at);
    for (const [y, start] of open) {
      if (now.has(y)) continue;
      path.moveTo(start, y);
      path.lineTo(at, y);
    }
    open = now;
  };
  for (let at = 0; at < spans.length; ) {
    if (spans[at] > x) {
      upright(x, before, []);
      level(x, []);
      before = [];
      x = spans[at];
    }
    const column = [];
    for (; at < spans.length && spans[at] === x; at += 3) column.push(spans[at + 1], spans[at + 2]);
    upright(x, before, column);
    level(x, column);
    before = column;
    x++;
  }
  upright(x, before, []);
  level(x, []);
  return path;
}
