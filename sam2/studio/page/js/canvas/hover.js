import { api } from "../core/api.js";

const REST = 40; // milliseconds a pointer stays before a preview is asked for
const SLOW = 500; // a model slower than this is not asked for previews for a while
const PAUSE = 8000;

/** The mask that a click here would give. One request at a time; the newest place wins. */
export class Hover {
  mask = null;
  #timer = 0;
  #wanted = null;
  #busy = false;
  #until = 0;

  constructor(app) {
    this.app = app;
  }

  /** The pointer is at a place of the picture. */
  at(x, y, positive) {
    const { state } = this.app;
    const wanted = state.hoverShown && state.session?.ready && !state.session.job && !state.playing;
    if (!wanted || this.app.auto.isHere || !this.app.view.inside(x, y) || performance.now() < this.#until) {
      return this.clear();
    }
    this.#wanted = [x, y, positive ? 1 : 0];
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), REST);
  }

  clear() {
    clearTimeout(this.#timer);
    this.#wanted = null;
    if (this.mask === null) return;
    this.mask = null;
    this.app.painter.paintTop();
  }

  async #ask() {
    if (this.#busy || !this.#wanted) return;
    this.#busy = true;
    const wanted = this.#wanted;
    const { session, frame, object } = this.app.state;
    const points = [...this.app.prompts.of(frame, object).points, wanted];
    const started = performance.now();
    try {
      const { mask } = await api.preview(session.id, frame, points);
      if (performance.now() - started > SLOW) this.#until = performance.now() + PAUSE;
      if (this.#wanted && this.app.state.session?.id === session.id && this.app.state.frame === frame) {
        this.mask = mask;
        this.app.painter.paintTop();
      }
    } catch {
      this.mask = null; // a preview that fails is no news
    } finally {
      this.#busy = false;
    }
    if (this.#wanted && this.#wanted !== wanted) this.#ask();
  }
}
