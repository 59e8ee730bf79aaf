import { byId } from "../core/dom.js";

const DRAG = 5; // screen pixels before a press becomes a drag

/** What mouse, pen and fingers do on the canvas; `app.acts` says what a click, a box and a stroke mean. */
export class Pointer {
  box = null; // box being dragged, in the picture
  #down = new Map(); // fingers and buttons that are pressed: pointerId -> [x, y] on the canvas
  #drag = null; // {kind, from, start, remove}

  constructor(app) {
    this.app = app;
    this.canvas = byId("canvas");
    const listen = (type, work) => this.canvas.addEventListener(type, work);
    listen("pointerdown", (event) => this.#press(event));
    listen("pointermove", (event) => this.#move(event));
    listen("pointerup", (event) => this.#release(event));
    listen("pointercancel", (event) => this.#forget(event));
    listen("pointerleave", () => this.#leave());
    listen("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  #place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  #press(event) {
    if (!this.app.state.session && !this.app.state.live) return;
    this.canvas.classList.add("pointed"); // the ring is for those who came by keyboard
    this.canvas.focus({ preventScroll: true });
    this.app.crosshair.hide();
    this.canvas.setPointerCapture(event.pointerId);
    const place = this.#place(event);
    this.#down.set(event.pointerId, place);
    if (this.#down.size === 2) return this.#pinch();
    const { tool } = this.app.state;
    const point = this.app.view.toPicture(...place);
    const remove = event.button === 2 || event.altKey;
    let kind = "click";
    if (event.button === 1 || tool === "hand") kind = "pan";
    else if (event.ctrlKey || event.metaKey) kind = "pick";
    else if (!this.app.state.live && (tool === "brush" || tool === "eraser")) {
      kind = "paint";
      this.app.acts.beginStroke(...point, (tool === "eraser") !== remove);
    }
    this.#drag = { kind, from: place, start: point, remove };
    event.preventDefault();
  }

  #pinch() {
    this.cancel();
    const [one, other] = [...this.#down.values()];
    this.#drag = { kind: "pinch", apart: apart(one, other), middle: middle(one, other) };
  }

  #move(event) {
    const place = this.#place(event);
    const point = this.app.view.toPicture(...place);
    if (this.#down.has(event.pointerId)) this.#down.set(event.pointerId, place);
    this.app.brush.at = point;
    const drag = this.#drag;
    if (!drag) return this.app.acts.point(...point, event.altKey);
    if (drag.kind === "pan") {
      this.app.view.pan(place[0] - drag.from[0], place[1] - drag.from[1]);
      drag.from = place;
    } else if (drag.kind === "pinch") this.#squeeze(drag);
    else if (drag.kind === "paint") {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) {
        this.app.brush.move(...this.app.view.toPicture(...this.#place(step)));
      }
    } else if (drag.kind === "click" && Math.hypot(place[0] - drag.from[0], place[1] - drag.from[1]) > DRAG) {
      drag.kind = "box";
      this.app.hover.clear();
    }
    if (drag.kind === "box") {
      this.box = this.app.acts.boxBetween(drag.start, point);
      this.app.painter.paintTop();
    }
  }

  #squeeze(drag) {
    const [one, other] = [...this.#down.values()];
    const now = middle(one, other);
    this.app.view.zoom(apart(one, other) / drag.apart, ...now);
    this.app.view.pan(now[0] - drag.middle[0], now[1] - drag.middle[1]);
    drag.apart = apart(one, other);
    drag.middle = now;
  }

  #release(event) {
    this.#down.delete(event.pointerId);
    const drag = this.#drag;
    if (!drag || this.#down.size) return;
    this.#drag = null;
    const { acts, view } = this.app;
    if (drag.kind === "paint") acts.endStroke();
    if (drag.kind === "pick" && view.inside(...drag.start)) acts.pick(...drag.start);
    if (drag.kind === "click" && this.app.state.tool !== "box") {
      if (view.inside(...drag.start)) acts.click(...drag.start, !drag.remove);
    }
    if (drag.kind === "box") {
      const box = this.box;
      this.box = null;
      if (box) acts.box(box);
    }
    this.app.painter.paintTop();
  }

  #forget(event) {
    this.#down.delete(event.pointerId);
    this.cancel();
  }

  /** Gives up what is being dragged; true when there was something. */
  cancel() {
    const drag = this.#drag;
    if (drag?.kind === "paint") this.app.brush.cancel();
    this.#drag = null;
    this.box = null;
    this.app.painter.paintTop();
    return drag !== null;
  }

  #leave() {
    this.app.brush.at = null;
    this.app.hover.clear();
    this.app.painter.paintTop();
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0015; // a pinch on a touchpad comes as a wheel with Ctrl
    this.app.view.zoom(Math.exp(-event.deltaY * lines * speed), ...this.#place(event));
  }
}

const apart = ([x, y], [otherX, otherY]) => Math.max(1, Math.hypot(x - otherX, y - otherY));
const middle = ([x, y], [otherX, otherY]) => [(x + otherX) / 2, (y + otherY) / 2];
