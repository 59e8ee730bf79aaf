import { clamp } from "../core/dom.js";
import { bitmapOf, runsOf } from "../mask/rle.js";

/**
 * Brush and eraser. A stroke starts from the mask that the object has on this frame, paints into a bitmap and
 * a canvas at once, and at its end hands over the whole mask as runs.
 */
export class Brush {
  painting = null; // id of the object whose mask is being painted (0: one that does not exist yet)
  at = null; // where the pointer is, in the picture

  constructor(app) {
    this.app = app;
  }

  get radius() {
    return this.app.state.brush / 2;
  }

  begin(x, y, erase) {
    const { session, frame, object } = this.app.state;
    const { width, height } = session;
    const shown = object === null ? null : this.app.prompts.shownMask(frame, object);
    this.size = [width, height];
    this.bitmap = shown ? bitmapOf(shown, width, height) : new Uint8Array(width * height);
    this.erase = erase;
    this.color = this.app.objects.activeColor();
    this.canvas = new OffscreenCanvas(width, height);
    this.ink = this.canvas.getContext("2d");
    this.ink.fillStyle = this.color;
    if (shown) {
      const shape = this.app.masks.shape(shown);
      if (!shape.empty) {
        const [left, top, right, bottom] = shape.box;
        this.ink.imageSmoothingEnabled = false;
        this.ink.drawImage(shape.tint(this.color), left, top, right - left, bottom - top);
      }
    }
    this.painting = object ?? 0;
    this.last = [x, y];
    this.move(x, y);
    this.app.painter.paint();
  }

  move(x, y) {
    const [fromX, fromY] = this.last;
    const steps = Math.max(1, Math.ceil(Math.hypot(x - fromX, y - fromY) / Math.max(1, this.radius / 2)));
    for (let step = 1; step <= steps; step++) {
      this.#stamp(fromX + ((x - fromX) * step) / steps, fromY + ((y - fromY) * step) / steps);
    }
    this.last = [x, y];
    this.app.painter.paintTop();
  }

  /** A disc of whole pixels; rows of it go to the canvas as rectangles, so both hold the same. */
  #stamp(x, y) {
    const [width, height] = this.size;
    const radius = Math.max(0.5, this.radius);
    for (let row = Math.ceil(y - radius - 0.5); row + 0.5 <= y + radius; row++) {
      if (row < 0 || row >= height) continue;
      const half = Math.sqrt(radius * radius - (row + 0.5 - y) ** 2);
      const left = clamp(Math.ceil(x - half - 0.5), 0, width);
      const right = clamp(Math.floor(x + half - 0.5) + 1, 0, width);
      if (right <= left) continue;
      this.bitmap.fill(this.erase ? 0 : 1, row * width + left, row * width + right);
      if (this.erase) this.ink.clearRect(left, row, right - left, 1);
      else this.ink.fillRect(left, row, right - left, 1);
    }
  }

  end() {
    const mask = runsOf(this.bitmap, ...this.size);
    this.cancel();
    return mask;
  }

  cancel() {
    this.painting = null;
    this.bitmap = this.canvas = null;
    this.app.painter.paint();
  }

  draw(context, unit) {
    if (this.canvas) {
      context.globalAlpha = 0.55;
      context.drawImage(this.canvas, 0, 0);
      context.globalAlpha = 1;
    }
    const { tool } = this.app.state;
    if (!this.at || (tool !== "brush" && tool !== "eraser")) return;
    context.beginPath();
    context.arc(this.at[0], this.at[1], Math.max(0.5, this.radius), 0, 2 * Math.PI);
    for (const [width, style] of [[3, "rgba(0, 0, 0, 0.5)"], [1.5, tool === "brush" ? "#ffffff" : "#ff8a80"]]) {
      context.lineWidth = width * unit;
      context.strokeStyle = style;
      context.stroke();
    }
  }
}
