import { clamp } from "../core/dom.js";
import { notice, say } from "../core/say.js";
import { text } from "../core/text.js";
import { areaOf, holds } from "../mask/rle.js";

/** What pointer and keyboard mean on the canvas. Coordinates are pixels of the picture. */
export class Acts {
  #running = new Set();

  constructor(app) {
    this.app = app;
  }

  /** When everything begun so far has its answer. */
  async idle() {
    await Promise.allSettled(this.#running);
  }

  async #keep(work) {
    this.#running.add(work);
    try {
      await work;
    } finally {
      this.#running.delete(work);
    }
  }

  click(x, y, positive) {
    return this.#keep(this.#click(Math.floor(x), Math.floor(y), positive));
  }

  box(box) {
    return this.#keep(this.#box(box));
  }

  endStroke() {
    return this.#keep(this.#endStroke());
  }

  /** The pointer rests or moves. */
  point(x, y, remove) {
    const { app } = this;
    if (app.state.live) return;
    if (app.auto.isHere) app.auto.point(x, y);
    else if (app.state.tool === "click") app.hover.at(Math.floor(x), Math.floor(y), !remove);
    if (app.state.tool === "brush" || app.state.tool === "eraser") app.painter.paintTop();
  }

  async #click(x, y, positive) {
    const { app } = this;
    app.hover.clear();
    if (app.state.live) return app.live.click(x, y, positive);
    if (app.auto.isHere) return app.auto.keepAt(x, y);
    const { frame, object } = app.state;
    if (!positive && object === null) return notice(text("addFirst"));
    const id = await app.objects.ensure();
    if (id === null) return;
    const { points } = app.prompts.of(frame, id);
    say(text(positive ? "pointAdded" : "pointRemoved", { x, y }));
    await app.prompts.edit(frame, id, { points: [...points, [x, y, positive ? 1 : 0]] });
  }

  async #box(box) {
    const { app } = this;
    const { frame } = app.state;
    if (app.state.live) return app.live.box(box);
    const id = await app.objects.ensure();
    if (id === null) return;
    say(text("boxSet"));
    await app.prompts.edit(frame, id, { box, points: [], mask: null });
  }

  /** A box with whole, ordered corners inside the picture; null where it is too thin. */
  boxBetween([x, y], [otherX, otherY]) {
    const [width, height] = this.app.view.size;
    const left = clamp(Math.floor(Math.min(x, otherX)), 0, width);
    const right = clamp(Math.ceil(Math.max(x, otherX)), 0, width);
    const top = clamp(Math.floor(Math.min(y, otherY)), 0, height);
    const bottom = clamp(Math.ceil(Math.max(y, otherY)), 0, height);
    return right - left < 2 || bottom - top < 2 ? null : [left, top, right, bottom];
  }

  beginStroke(x, y, erase) {
    this.app.choices.close();
    this.app.brush.begin(x, y, erase);
  }

  async #endStroke() {
    const { app } = this;
    if (app.brush.painting === null) return;
    const { frame } = app.state;
    const mask = app.brush.end();
    if (areaOf(mask) === 0 && app.state.object === null) return;
    const id = await app.objects.ensure();
    if (id === null) return;
    app.masks.putOne(frame, id, { mask, iou: 1, presence: 1 });
    await app.prompts.edit(frame, id, { points: [], box: null, mask });
  }

  /** Makes the smallest object under the pointer the active one. */
  pick(x, y) {
    const { app } = this;
    if (!app.state.session) return;
    let best = null;
    for (const [id, { mask }] of app.masks.objects(app.state.frame)) {
      if (holds(mask, x, y) && (!best || areaOf(mask) < best.area)) best = { id, area: areaOf(mask) };
    }
    if (best) app.objects.choose(best.id);
  }
}
