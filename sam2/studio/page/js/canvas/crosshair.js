import { byId, clamp } from "../core/dom.js";
import { say } from "../core/say.js";
import { text } from "../core/text.js";

/**
 * The canvas without a pointer: arrows move a crosshair, Enter does what a click does there, Shift+Enter what a
 * right click does. With the box tool Enter marks one corner, then the other.
 */
export class Crosshair {
  shown = false;
  x = 0;
  y = 0;
  corner = null;

  constructor(app) {
    this.app = app;
    this.canvas = byId("canvas");
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("blur", () => this.hide());
    document.addEventListener("keydown", () => this.canvas.classList.remove("pointed"));
  }

  hide() {
    if (!this.shown) return;
    this.shown = false;
    this.corner = null;
    this.app.hover.clear();
    this.app.painter.paintTop();
  }

  /** In the middle of the picture, when another medium was opened. */
  centre() {
    [this.x, this.y] = this.app.view.size.map((length) => length / 2);
    this.corner = null;
  }

  boxTo() {
    return this.app.acts.boxBetween(this.corner, [this.x, this.y]);
  }

  cancel() {
    const had = this.corner !== null;
    this.corner = null;
    this.app.painter.paintTop();
    return had;
  }

  #key(event) {
    const { session, live } = this.app.state;
    if ((!session && !live) || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (steps) this.#step(steps, event);
    else if (event.key === "Enter") this.#enter(event.shiftKey || event.altKey);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #step([dx, dy], event) {
    const { view } = this.app;
    const pixels = event.altKey ? 1 : Math.max(1, Math.round((event.shiftKey ? 64 : 10) / view.scale));
    if (this.shown) {
      this.x = clamp(this.x + dx * pixels, 0, view.size[0] - 1);
      this.y = clamp(this.y + dy * pixels, 0, view.size[1] - 1);
    }
    this.shown = true;
    view.reveal(this.x, this.y);
    this.app.brush.at = [this.x, this.y];
    this.app.acts.point(this.x, this.y, false);
    say(text("at", { x: Math.floor(this.x), y: Math.floor(this.y) }));
    this.app.painter.paintTop();
  }

  #enter(remove) {
    this.shown = true;
    const { acts, state } = this.app;
    if (state.tool === "box") {
      if (this.corner) {
        const box = this.boxTo();
        this.corner = null;
        if (box) acts.box(box);
      } else {
        this.corner = [this.x, this.y];
        say(text("cornerSet"));
      }
    } else if (!state.live && (state.tool === "brush" || state.tool === "eraser")) {
      acts.beginStroke(this.x, this.y, (state.tool === "eraser") !== remove);
      acts.endStroke();
    } else acts.click(Math.floor(this.x) + 0.5, Math.floor(this.y) + 0.5, !remove);
    this.app.painter.paintTop();
  }
}
