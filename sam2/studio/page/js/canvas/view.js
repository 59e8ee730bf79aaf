import { clamp } from "../core/dom.js";

const CLOSEST = 64; // screen pixels for one pixel of the picture

/** Where the picture lies on the canvas: screen = picture * scale + (left, top), in CSS pixels. */
export class View {
  scale = 1;
  left = 0;
  top = 0;
  fitted = true;

  constructor(changed) {
    this.changed = changed;
    this.size = [1, 1];
    this.room = [1, 1];
  }

  /** The picture's size; fits it. */
  setPicture(width, height) {
    this.size = [width, height];
    this.fit();
  }

  /** The canvas's size; keeps the middle where it is. */
  setRoom(width, height) {
    const [before, above] = this.room;
    this.room = [width, height];
    if (this.fitted) this.fit();
    else this.pan((width - before) / 2, (height - above) / 2);
  }

  get fitScale() {
    const margin = 24;
    return Math.min(
      Math.max(16, this.room[0] - margin) / this.size[0],
      Math.max(16, this.room[1] - margin) / this.size[1],
      CLOSEST,
    );
  }

  fit() {
    this.scale = this.fitScale;
    this.left = (this.room[0] - this.size[0] * this.scale) / 2;
    this.top = (this.room[1] - this.size[1] * this.scale) / 2;
    this.fitted = true;
    this.changed();
  }

  pan(x, y) {
    const keep = 48; // of the picture always stays in sight
    this.left = clamp(this.left + x, keep - this.size[0] * this.scale, this.room[0] - keep);
    this.top = clamp(this.top + y, keep - this.size[1] * this.scale, this.room[1] - keep);
    this.fitted = false;
    this.changed();
  }

  /** Zooms by `factor`; the point (x, y) of the canvas stays where it is. */
  zoom(factor, x = this.room[0] / 2, y = this.room[1] / 2) {
    const scale = clamp(this.scale * factor, Math.min(this.fitScale, 1) / 2, CLOSEST);
    const ratio = scale / this.scale;
    this.scale = scale;
    this.left = x - (x - this.left) * ratio;
    this.top = y - (y - this.top) * ratio;
    this.pan(0, 0);
  }

  toPicture(x, y) {
    return [(x - this.left) / this.scale, (y - this.top) / this.scale];
  }

  toScreen(x, y) {
    return [x * this.scale + this.left, y * this.scale + this.top];
  }

  inside(x, y) {
    return x >= 0 && y >= 0 && x < this.size[0] && y < this.size[1];
  }

  /** Brings a point of the picture into sight. */
  reveal(x, y) {
    const [sx, sy] = this.toScreen(x, y);
    const margin = 24;
    const dx = clamp(sx, margin, this.room[0] - margin) - sx;
    const dy = clamp(sy, margin, this.room[1] - margin) - sy;
    if (dx || dy) this.pan(dx, dy);
  }
}
