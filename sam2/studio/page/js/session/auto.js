import { api } from "../core/api.js";
import { byId, make } from "../core/dom.js";
import { notice, say, tell } from "../core/say.js";
import { onLanguage, text } from "../core/text.js";
import { candidateColor } from "../canvas/masks.js";
import { areaOf, holds } from "../mask/rle.js";
import { percent } from "./prompts.js";

/** Automatic masks of a picture: they arrive one after another; a click keeps one as an object. */
export class Auto {
  pointed = -1;

  constructor(app) {
    this.app = app;
    byId("auto-close").addEventListener("click", () => this.close());
    byId("auto-all").addEventListener("click", () => this.keepAll());
    app.store.on("candidates", () => this.#show());
    onLanguage(() => this.#show());
  }

  /** The candidates shown are of the frame shown. */
  get isHere() {
    const { candidates, frame } = this.app.state;
    return candidates?.frame === frame;
  }

  async start() {
    const { app } = this;
    const { session, frame } = app.state;
    if (!session || app.state.live) return;
    app.choices.close();
    app.hover.clear();
    app.store.set({ candidates: { frame, list: [], done: 0, total: 0, running: true } });
    try {
      await api.auto(session.id, frame);
      say(text("autoBegan"));
    } catch (error) {
      tell(error);
      this.close();
    }
  }

  close() {
    const { candidates, session } = this.app.state;
    if (!candidates) return false;
    if (candidates.running) api.stopAuto(session.id).catch(() => undefined); // it ends by itself, only later
    this.pointed = -1;
    this.app.store.set({ candidates: null });
    this.app.painter.paint();
    return true;
  }

  hear({ frame, candidates = [], done, total }) {
    const { app } = this;
    const now = app.state.candidates;
    if (!now || now.frame !== frame) return;
    now.list.push(...candidates);
    Object.assign(now, { done, total, running: done < total });
    app.store.set({ candidates: now });
    app.painter.paint();
    if (now.running) return;
    say(text("autoDone", { count: now.list.length }));
    if (!now.list.length) notice(text("autoNone"));
  }

  #under(x, y) {
    let best = -1;
    const { list } = this.app.state.candidates;
    list.forEach(({ mask }, index) => {
      if (holds(mask, x, y) && (best < 0 || areaOf(mask) < areaOf(list[best].mask))) best = index;
    });
    return best;
  }

  point(x, y) {
    this.light(this.#under(x, y));
  }

  light(index) {
    if (index === this.pointed) return;
    this.pointed = index;
    this.app.painter.paint();
  }

  keepAt(x, y) {
    const index = this.#under(x, y);
    if (index < 0) return say(text("nothingHere"));
    return this.keep(index);
  }

  /** Makes a candidate an object; whether that went well. */
  async keep(index) {
    const { app } = this;
    const { candidates, session } = app.state;
    const [candidate] = candidates.list.splice(index, 1);
    const { mask, iou } = candidate;
    this.pointed = -1;
    app.store.set({ candidates });
    try {
      const object = await api.addObject(session.id);
      app.objects.adopt(object);
      app.masks.putOne(candidates.frame, object.id, { mask, iou, presence: 1 });
      await app.prompts.edit(candidates.frame, object.id, { points: [], box: null, mask });
      say(text("kept", { name: object.name }));
      return true;
    } catch (error) {
      tell(error);
      candidates.list.splice(index, 0, candidate);
      if (app.state.candidates === candidates) app.store.set({ candidates });
      return false;
    } finally {
      app.painter.paint();
    }
  }

  async keepAll() {
    while (this.app.state.candidates?.list.length) if (!(await this.keep(0))) return;
    this.close();
  }

  #show() {
    const { candidates } = this.app.state;
    byId("auto").hidden = !candidates;
    if (!candidates) return;
    const { list, running, done, total } = candidates;
    byId("auto-progress").hidden = !running;
    if (total) {
      byId("auto-progress").max = total;
      byId("auto-progress").value = done;
    } else byId("auto-progress").removeAttribute("value");
    byId("auto-count").textContent = text(running ? "autoRunning" : "autoFound", { count: list.length });
    byId("auto-all").disabled = running || !list.length;
    byId("auto-list").replaceChildren(...list.slice(0, 60).map((candidate, index) => this.#row(candidate, index)));
  }

  #row({ mask, iou }, index) {
    const dot = make("span", { class: "dot" });
    dot.style.background = candidateColor(index);
    const words = text("candidate", { area: areaOf(mask), iou: percent(iou) });
    const light = () => this.light(index);
    const button = { type: "button", onclick: () => this.keep(index), onfocus: light, onpointerenter: light };
    return make("li", {}, make("button", button, dot, words));
  }
}
