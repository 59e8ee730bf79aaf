import { byId } from "../core/dom.js";
import { drawCandidates, drawMask } from "./masks.js";
import { drawMarks } from "./marks.js";

/**
 * Two canvases: the lower holds the picture and its masks, the upper what moves with the pointer. Each is
 * drawn at most once a screen refresh, and only when asked for. The lower one says in its data attributes what
 * it shows.
 */
export class Painter {
  #due = { base: false, top: false };
  #shown = null; // {session, frame} that the lower canvas shows
  #asked = false;

  constructor(app) {
    this.app = app;
    this.base = byId("picture");
    this.top = byId("canvas");
    this.baseContext = this.base.getContext("2d");
    this.topContext = this.top.getContext("2d");
    new ResizeObserver(() => this.resize()).observe(byId("stage"));
    this.resize();
  }

  resize() {
    const { width, height } = byId("stage").getBoundingClientRect();
    this.ratio = devicePixelRatio || 1;
    for (const canvas of [this.base, this.top]) {
      canvas.width = Math.max(1, Math.round(width * this.ratio));
      canvas.height = Math.max(1, Math.round(height * this.ratio));
    }
    this.app.view.setRoom(width, height);
    this.paint();
  }

  paint() {
    this.#due.base = true;
    this.paintTop();
  }

  paintTop() {
    this.#due.top = true;
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      if (this.#due.base) this.#drawBase();
      if (this.#due.top) this.#drawTop();
      this.#due = { base: false, top: false };
    });
  }

  /** From here on coordinates are pixels of the picture. */
  #enter(context) {
    const { scale, left, top } = this.app.view;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    const ratio = this.ratio;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * left, ratio * top);
    context.imageSmoothingEnabled = scale < 3;
  }

  #drawBase() {
    const { app, baseContext: context } = this;
    const { session, live } = app.state;
    this.#enter(context);
    if (live) return app.live.draw(context);
    if (!session) return;
    const frame = this.#frameAtHand(session.id);
    if (frame === null) return;
    context.drawImage(app.frames.get(frame), 0, 0, session.width, session.height);
    const masks = app.state.masksShown ? this.#drawMasks(context, frame) : 0;
    if (app.state.candidates?.frame === frame) drawCandidates(context, app);
    if (app.view.scale >= 16) drawGrid(context, app.view);
    this.#shown = { session: session.id, frame };
    this.base.dataset.session = session.id;
    this.base.dataset.frame = frame;
    this.base.dataset.view = [app.view.scale, app.view.left, app.view.top].join(" ");
    this.base.dataset.masks = masks;
  }

  /** The frame to show; until its picture is here, the one that came last, with its own masks. */
  #frameAtHand(session) {
    const { frames, state } = this.app;
    if (frames.get(state.frame)) return state.frame;
    if (frames.latest !== null && frames.get(frames.latest)) return frames.latest;
    const before = this.#shown?.session === session ? this.#shown.frame : null;
    return before !== null && frames.get(before) ? before : null;
  }

  #drawMasks(context, frame) {
    const { app } = this;
    const { session, object, choices } = app.state;
    const chosen = choices?.frame === frame ? choices : null;
    const painted = app.brush.painting;
    let shown = 0;
    for (const item of session.objects) {
      if (!item.visible) continue;
      const result = app.masks.get(frame, item.id);
      const mask = chosen?.object === item.id ? chosen.masks[chosen.chosen].mask : result?.mask;
      if (!mask || painted === item.id) continue;
      drawMask(context, app.masks.shape(mask), item, app.view.scale, item.id === object);
      shown++;
    }
    return shown;
  }

  #drawTop() {
    this.#enter(this.topContext);
    if (this.app.state.session || this.app.state.live) drawMarks(this.topContext, this.app);
  }
}

/** Lines between pixels, when they are large enough to be told apart. */
function drawGrid(context, view) {
  const [left, top] = view.toPicture(0, 0).map((value) => Math.max(0, Math.floor(value)));
  const corner = view.toPicture(...view.room);
  const [right, bottom] = corner.map((value, axis) => Math.min(view.size[axis], Math.ceil(value)));
  context.beginPath();
  for (let x = left; x <= right; x++) {
    context.moveTo(x, top);
    context.lineTo(x, bottom);
  }
  for (let y = top; y <= bottom; y++) {
    context.moveTo(left, y);
    context.lineTo(right, y);
  }
  context.lineWidth = 1 / view.scale;
  context.strokeStyle = "rgba(128, 128, 128, 0.35)";
  context.stroke();
}
