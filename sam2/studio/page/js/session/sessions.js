import { api } from "../core/api.js";
import { Events } from "../core/events.js";
import { notice, say, tell } from "../core/say.js";
import { text } from "../core/text.js";
import { Frames } from "../media/frames.js";

/** The medium that is open: opening, what the server tells of it, undo and redo. */
export class Sessions {
  #events = null;
  #turn = 0; // of several media that are being opened the newest counts
  #known = 0; // newest revision whose masks the page has or is about to get

  constructor(app) {
    this.app = app;
  }

  async open(path) {
    const { app } = this;
    const turn = ++this.#turn;
    try {
      const session = await api.openSession(path);
      if (turn !== this.#turn) return false;
      this.#enter(session);
      say(text("opened", { name: session.path }));
      app.folder.follow(session.path);
      return true;
    } catch (error) {
      tell(error);
      return false;
    }
  }

  #enter(session) {
    const { app } = this;
    this.leave();
    this.#known = session.revision;
    app.frames = new Frames(
      session,
      () => app.painter.paint(),
      tell,
    );
    const object = session.objects.at(-1)?.id ?? null;
    const kept = Number(sessionStorage.getItem(`sam2.frame.${session.id}`)) || 0;
    app.store.set({ session, object, frame: Math.min(kept, session.frames - 1) });
    this.#warn([], session);
    app.view.setPicture(session.width, session.height);
    app.crosshair.centre();
    history.replaceState(null, "", `#${encodeURIComponent(session.path)}`);
    document.title = `${session.path.split("/").pop()} – SAM 2 Studio`;
    this.#events = new Events(session.id, (event) => this.#hear(event));
    app.seek(app.state.frame);
  }

  leave() {
    const { app } = this;
    this.#events?.close();
    this.#events = null;
    app.frames?.close();
    app.masks.clear();
    app.prompts.forget();
    const marks = { timeline: new Map(), disagreement: [], lookNext: [] };
    app.store.set({ session: null, object: null, choices: null, candidates: null, playing: false, frame: 0, marks });
  }

  /** Takes over the server's description, unless a newer one overtook it: answers and events come two ways. */
  apply(session) {
    const { app } = this;
    const before = app.state.session;
    if (!before || before.id !== session.id || session.revision < before.revision) return;
    session.prompts = app.prompts.merge(session.prompts);
    const gone = before.objects.filter(({ id }) => !session.objects.some((object) => object.id === id));
    for (const { id } of gone) app.masks.dropObject(id);
    const changes = { session };
    if (gone.some(({ id }) => id === app.state.object)) changes.object = session.objects.at(-1)?.id ?? null;
    app.store.set(changes);
    this.#warn([...before.notes, before.fault], session);
    if (before.job && !session.job) {
      app.timeline.load();
      say(text("trackingDone"));
    }
    this.#catchUp();
    app.painter.paint();
  }

  /** Tells what has become known of the masks. */
  #warn(known, { notes, fault }) {
    for (const note of notes) if (!known.includes(note)) notice(text(note), "fault");
    if (fault && !known.includes(fault)) notice(fault, "fault");
  }

  /** Masks of this revision are here. */
  knows(revision) {
    this.#known = Math.max(this.#known, revision ?? 0);
  }

  /** Fetches masks again if another tab, an undo or an event that was missed changed them. */
  #catchUp() {
    const { app } = this;
    const { session, waiting } = app.state;
    if (waiting > 0 || session.revision <= this.#known) return;
    this.#known = session.revision;
    this.reload();
  }

  /** Fetches all masks again. */
  reload() {
    const { app } = this;
    app.masks.outdate();
    app.wantMasks();
    app.timeline.load();
  }

  async refresh() {
    const { session } = this.app.state;
    if (!session) return;
    try {
      this.apply(await api.session(session.id));
    } catch (error) {
      tell(error);
    }
  }

  #hear(event) {
    const { app } = this;
    if (event.type === "session") this.apply(event.session);
    else if (event.type === "masks") this.#masks(event);
    else if (event.type === "progress") app.tracking.progress(event);
    else if (event.type === "auto") app.auto.hear(event);
    else if (event.type === "export") app.exporting.hear(event);
    else if (event.type === "error") notice(event.detail, "fault");
    else if (event.type === "gone") this.open(app.state.session.path);
    else if (event.type === "lost") app.store.set({ connected: false });
    else if (event.type === "connected") {
      app.store.set({ connected: true });
      if (app.state.session) app.state.session.revision = this.#known = 0; // the server may have started anew
      this.reload();
      this.refresh();
    }
  }

  #masks({ frame, revision, objects, again }) {
    const { app } = this;
    this.knows(revision);
    app.masks.put(frame, objects, revision);
    app.timeline.note(frame, objects);
    if (!again) app.tracking.saw(frame);
  }

  /** Runs a request whose answer may be a new description of the session. */
  async run(request) {
    try {
      const answer = await request();
      if (answer?.objects && answer?.prompts) this.apply(answer);
      return answer;
    } catch (error) {
      tell(error);
      return null;
    }
  }

  async #step(name, can) {
    const { app } = this;
    const { session } = app.state;
    if (!session?.[can]) return;
    app.choices.close();
    app.prompts.forget();
    const answer = await this.run(() => api[name](session.id));
    if (answer) say(text(name === "undo" ? "undone" : "redone"));
  }

  undo() {
    return this.#step("undo", "can_undo");
  }

  redo() {
    return this.#step("redo", "can_redo");
  }

  async toggleDone() {
    const { app } = this;
    const { session } = app.state;
    if (!session) return;
    const answer = await this.run(() => api.changeSession(session.id, { done: !session.done }));
    if (answer) app.folder.mark(session.path, !session.done);
  }

  /** Another model or memory policy. */
  change(change) {
    return this.run(() => api.changeSession(this.app.state.session.id, change));
  }
}
