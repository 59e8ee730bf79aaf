import { api } from "../core/api.js";
import { say, tell } from "../core/say.js";
import { text } from "../core/text.js";
import { areaOf } from "../mask/rle.js";

const NONE = { points: [], box: null, mask: null, choice: null };

/**
 * Prompts of the session. An edit shows at once and is sent as the whole state of one object on one frame;
 * of several answers for the same place only the newest counts.
 */
export class Prompts {
  #pending = new Map(); // "frame/object" -> prompt that the server has not answered yet
  #counter = 0;
  #newest = new Map(); // "frame/object" -> number of the newest edit

  constructor(app) {
    this.app = app;
  }

  of(frame, object) {
    const found = this.app.state.session?.prompts.find((p) => p.frame === frame && p.object === object);
    return found ? { ...NONE, ...found, mask: found.mask || null } : { ...NONE };
  }

  shownMask(frame, object) {
    const { choices } = this.app.state;
    if (choices?.frame === frame && choices.object === object) return choices.masks[choices.chosen].mask;
    return this.app.masks.get(frame, object)?.mask ?? null;
  }

  /** The server's prompts with the edits that it has not answered yet. */
  merge(prompts) {
    if (!this.#pending.size) return prompts;
    const kept = prompts.filter(({ frame, object }) => !this.#pending.has(`${frame}/${object}`));
    return [...kept, ...this.#pending.values()];
  }

  forget() {
    this.#pending.clear();
    this.#newest.clear();
  }

  async edit(frame, object, change) {
    const { app } = this;
    const { session } = app.state;
    const prompt = { ...this.of(frame, object), choice: null, ...change, frame, object };
    if (prompt.mask === true) prompt.mask = this.shownMask(frame, object);
    if (!("choice" in change)) app.choices.close();
    const key = `${frame}/${object}`;
    const number = ++this.#counter;
    this.#newest.set(key, number);
    this.#pending.set(key, { ...prompt, mask: prompt.mask !== null });
    session.prompts = this.merge(session.prompts);
    app.store.set({ session, waiting: app.state.waiting + 1 });
    const { points, box, mask, choice } = prompt;
    try {
      const answer = await api.prompt(session.id, frame, object, { points, box, mask, choice });
      if (this.#newest.get(key) === number) this.#show(answer, frame, object, choice);
    } catch (error) {
      tell(error);
      if (!error.superseded) {
        app.sessions.reload();
        app.sessions.refresh();
      }
    } finally {
      if (this.#newest.get(key) === number) this.#settle(key);
      app.store.set({ waiting: app.state.waiting - 1 });
    }
  }

  /** Keeps the answered edit as if the server's next description had already told of it. */
  #settle(key) {
    const prompt = this.#pending.get(key);
    this.#pending.delete(key);
    const { session } = this.app.state;
    if (!prompt || !session) return;
    const others = session.prompts.filter((p) => `${p.frame}/${p.object}` !== key);
    session.prompts = [...others, prompt];
  }

  #show(answer, frame, object, choice) {
    const { app } = this;
    app.sessions.knows(answer.revision);
    app.masks.putOne(frame, object, answer);
    app.timeline.note(frame, [{ id: object, ...answer }]);
    if (choice === null && answer.choices?.length > 1) app.choices.offer(frame, object, answer);
    const { width, height } = app.state.session;
    const share = answer.mask ? (100 * areaOf(answer.mask)) / (width * height) : 0;
    say(text("maskSays", { share: share.toFixed(1), iou: percent(answer.iou) }));
  }

  async choose(index) {
    const { frame, object, masks } = this.app.state.choices;
    this.app.masks.putOne(frame, object, { ...this.app.masks.get(frame, object), ...masks[index] });
    await this.edit(frame, object, { choice: index });
  }

  /** Takes the last point, else the box, else the mask of the active object away. */
  async takeBack() {
    const { frame, object } = this.app.state;
    if (object === null) return;
    const { points, box, mask } = this.of(frame, object);
    const fewer = points.slice(0, -1);
    if (points.length && (fewer.length || box || mask)) return this.edit(frame, object, { points: fewer });
    if (points.length || box || mask) return this.clear();
  }

  async clear() {
    const { app } = this;
    const { session, frame, object } = app.state;
    if (object === null) return;
    const { points, box, mask } = this.of(frame, object);
    if (!points.length && !box && !mask) return;
    app.choices.close();
    await app.sessions.run(() => api.clearPrompt(session.id, frame, object));
    await app.sessions.refresh();
    say(text("cleared"));
  }
}

export const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(100 * value)} %`);
