import { byId, clamp, icon } from "../core/dom.js";
import { label, onLanguage, text } from "../core/text.js";

/** Play, step and jump. Playing keeps to the clip's time: frames that are not here in time are left out. */
export class Player {
  #from = 0;
  #began = 0;

  constructor(app) {
    this.app = app;
    const press = (id, work) => byId(id).addEventListener("click", work);
    press("play", () => this.toggle());
    press("step-back", () => this.step(-1));
    press("step-on", () => this.step(1));
    press("to-prompt-back", () => this.toPrompt(-1));
    press("to-prompt-on", () => this.toPrompt(1));
    press("look-next", () => this.lookNext());
    byId("rate").addEventListener("change", (event) => {
      app.store.set({ rate: Number(event.target.value) });
      this.#restart();
    });
    byId("frame-number").addEventListener("change", (event) => this.to(event.target.valueAsNumber - 1));
    app.store.on("playing", () => this.#show(), true);
    app.store.on("marks", ({ marks }) => (byId("look-next").disabled = !marks.lookNext.length), true);
    onLanguage(() => this.#show());
  }

  get #last() {
    return (this.app.state.session?.frames ?? 1) - 1;
  }

  to(frame) {
    if (Number.isFinite(frame)) this.app.seek(clamp(Math.round(frame), 0, this.#last));
  }

  step(by) {
    this.pause();
    this.to(this.app.state.frame + by);
  }

  /** The nearest frame with a prompt, before (-1) or after (1) this one. */
  toPrompt(direction) {
    const { session, frame } = this.app.state;
    const ahead = (session?.prompts ?? [])
      .map((prompt) => (prompt.frame - frame) * direction)
      .filter((distance) => distance > 0);
    if (ahead.length) this.to(frame + direction * Math.min(...ahead));
  }

  /** Where a correction is worth most; again: the one after it. */
  lookNext() {
    const { marks, frame } = this.app.state;
    const order = marks.lookNext.map((mark) => mark.frame);
    if (order.length) this.to(order[(order.indexOf(frame) + 1) % order.length]);
  }

  toggle() {
    if (this.app.state.playing) this.pause();
    else this.play();
  }

  play() {
    const { session, frame } = this.app.state;
    if (session?.kind !== "video") return;
    if (frame >= this.#last) this.app.seek(0);
    this.app.store.set({ playing: true });
    this.#restart();
    this.#tick();
  }

  pause() {
    if (this.app.state.playing) this.app.store.set({ playing: false });
  }

  #restart() {
    this.#from = this.app.state.frame;
    this.#began = performance.now();
  }

  #tick() {
    const { playing, session, rate, frame } = this.app.state;
    if (!playing || !session) return;
    const elapsed = (performance.now() - this.#began) / 1000;
    const due = this.#from + Math.floor(elapsed * (session.fps || 25) * rate);
    if (due > frame) {
      if (frame >= this.#last) return this.pause();
      const next = Math.min(due, this.#last);
      if (this.app.frames.has(next)) this.app.seek(next);
      else if (this.app.frames.has(frame + 1)) this.#late(frame + 1);
      else {
        this.app.frames.want(next, 1, 12);
        this.#began += 16; // the clock waits with the picture
      }
    }
    requestAnimationFrame(() => this.#tick());
  }

  #late(frame) {
    this.app.seek(frame);
    this.#restart();
  }

  #show() {
    const { playing } = this.app.state;
    byId("play").replaceChildren(icon(playing ? "pause" : "play"));
    label(byId("play"), text(playing ? "pause" : "play"));
  }
}
