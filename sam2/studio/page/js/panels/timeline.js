import { api, thumbUrl } from "../core/api.js";
import { byId, clamp, make, settled } from "../core/dom.js";
import { onLanguage, text } from "../core/text.js";
import { percent } from "../session/prompts.js";
import { drawTracks, HEAD, ROW } from "./tracks.js";

/** The clip as a strip: thumbnails, one row an object, where to look next; a slider for mouse and keyboard. */
export class Timeline {
  #thumbs = "";
  #due = false;
  #since = null; // scores noted while the server's were under way: they are newer

  constructor(app) {
    this.app = app;
    this.slider = byId("scrub");
    this.canvas = byId("tracks");
    this.slider.addEventListener("pointerdown", (event) => this.#grab(event));
    this.slider.addEventListener("pointermove", (event) => this.#drag(event));
    this.slider.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw()).observe(this.slider);
    app.store.on("session", () => this.draw());
    app.store.on("frame session", () => this.#showFrame());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new MutationObserver(() => this.draw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    onLanguage(() => this.draw());
  }

  get gutter() {
    return this.slider.clientWidth > 700 ? 108 : 0;
  }

  #frames() {
    return this.app.state.session?.frames ?? 1;
  }

  xOf(frame) {
    return this.gutter + ((frame + 0.5) / this.#frames()) * (this.slider.clientWidth - this.gutter);
  }

  #frameAt(event) {
    const { left } = this.slider.getBoundingClientRect();
    const share = (event.clientX - left - this.gutter) / (this.slider.clientWidth - this.gutter);
    return clamp(Math.floor(share * this.#frames()), 0, this.#frames() - 1);
  }

  #grab(event) {
    if (event.button !== 0) return;
    this.slider.setPointerCapture(event.pointerId);
    this.app.player.pause();
    this.app.seek(this.#frameAt(event));
  }

  #drag(event) {
    if (this.slider.hasPointerCapture(event.pointerId)) this.app.seek(this.#frameAt(event));
  }

  #key(event) {
    const { frame } = this.app.state;
    const last = this.#frames() - 1;
    const target = {
      ArrowLeft: frame - 1,
      ArrowDown: frame - 1,
      ArrowRight: frame + 1,
      ArrowUp: frame + 1,
      PageDown: frame - 10,
      PageUp: frame + 10,
      Home: 0,
      End: last,
    }[event.key];
    if (target === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.app.seek(clamp(target, 0, last));
  }

  /** Scores of a frame that has just been computed. */
  note(frame, objects) {
    const { timeline } = this.app.state.marks;
    this.#since?.push([frame, objects]);
    for (const { id, presence, iou } of objects) {
      if (!timeline.has(id)) timeline.set(id, new Map());
      timeline.get(id).set(frame, { presence, iou });
    }
    this.draw();
  }

  load = settled(() => this.#load(), 60);

  async #load() {
    const { session } = this.app.state;
    if (session?.kind !== "video") return;
    this.#since = [];
    try {
      const { timeline, disagreement, look_next } = await api.marks(session.id);
      if (this.app.state.session?.id !== session.id) return;
      const rows = new Map();
      for (const { object, frame, presence, iou } of timeline) {
        if (!rows.has(object)) rows.set(object, new Map());
        rows.get(object).set(frame, { presence, iou });
      }
      this.app.store.set({ marks: { timeline: rows, disagreement, lookNext: look_next } });
      for (const [frame, objects] of this.#since.splice(0)) this.note(frame, objects);
    } catch {
      // marks are a help, not a need: the next change asks again
    }
    this.#since = null;
    this.draw();
  }

  draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  #draw() {
    const { session } = this.app.state;
    byId("timeline").hidden = session?.kind !== "video";
    if (session?.kind !== "video") return;
    const ratio = devicePixelRatio || 1;
    const width = this.slider.clientWidth;
    const height = HEAD + Math.max(1, session.objects.length) * ROW;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = `${height}px`;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    drawTracks(context, this, this.app.state, getComputedStyle(this.slider));
    this.#showThumbs(session, width);
    this.#showFrame();
  }

  #showThumbs(session, width) {
    const room = width - this.gutter;
    const height = 44;
    const each = clamp((height * session.width) / session.height, 28, 120);
    const count = clamp(Math.floor(room / each), 1, session.frames);
    const key = `${session.id}/${count}/${this.gutter}`;
    if (key === this.#thumbs) return;
    this.#thumbs = key;
    const strip = byId("thumbs");
    strip.style.marginInlineStart = `${this.gutter}px`;
    strip.replaceChildren(...Array.from({ length: count }, (_, index) => {
      const frame = Math.floor(((index + 0.5) / count) * session.frames);
      return make("img", { src: thumbUrl(session.id, frame), alt: "", draggable: false, loading: "lazy" });
    }));
  }

  #showFrame() {
    const { session, frame } = this.app.state;
    if (session?.kind !== "video") return;
    byId("playhead").style.transform = `translateX(${this.xOf(frame)}px)`;
    const seconds = session.fps ? frame / session.fps : 0;
    byId("frame-number").max = session.frames;
    if (document.activeElement !== byId("frame-number")) byId("frame-number").value = frame + 1;
    byId("frame-count").textContent = `/ ${session.frames}`;
    byId("clock").textContent = clock(seconds);
    this.slider.setAttribute("aria-valuemin", "1");
    this.slider.setAttribute("aria-valuemax", String(session.frames));
    this.slider.setAttribute("aria-valuenow", String(frame + 1));
    this.slider.setAttribute("aria-valuetext", this.#words(session, frame));
  }

  #words(session, frame) {
    const parts = [text("frameSays", { frame: frame + 1, frames: session.frames })];
    for (const { id, name } of session.objects) {
      const score = this.app.state.marks.timeline.get(id)?.get(frame);
      if (score) parts.push(`${name} ${percent(score.iou)}`);
      if (session.prompts.some((prompt) => prompt.frame === frame && prompt.object === id)) {
        parts.push(text("prompted", { name }));
      }
    }
    return parts.join(", ");
  }
}

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}
