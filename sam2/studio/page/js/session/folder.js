import { api } from "../core/api.js";
import { byId } from "../core/dom.js";
import { onLanguage, text } from "../core/text.js";

/** The neighbours of the medium that is open: next, previous, done marks. */
export class Folder {
  constructor(app) {
    this.app = app;
    byId("previous").addEventListener("click", () => this.step(-1));
    byId("next").addEventListener("click", () => this.step(1));
    byId("done").addEventListener("click", () => app.sessions.toggleDone());
    app.store.on("folder session", () => this.#show());
    onLanguage(() => this.#show());
  }

  async follow(path) {
    const cut = path.lastIndexOf("/");
    const parent = cut < 0 ? "" : path.slice(0, cut);
    try {
      const { entries } = await api.browse(parent);
      this.app.store.set({ folder: { path: parent, entries: entries.filter(({ kind }) => kind !== "folder") } });
    } catch {
      this.app.store.set({ folder: null }); // an upload lies outside what can be browsed
    }
  }

  mark(path, done) {
    const entry = this.app.state.folder?.entries.find((other) => other.path === path);
    if (!entry) return;
    entry.done = done;
    this.#show();
  }

  #index() {
    const { folder, session } = this.app.state;
    return folder && session ? folder.entries.findIndex(({ path }) => path === session.path) : -1;
  }

  step(by) {
    const index = this.#index();
    const next = this.app.state.folder?.entries[index + by];
    if (index >= 0 && next) this.app.sessions.open(next.path);
  }

  /** Marks this one as done and opens the next that is not. */
  async finish() {
    const { session, folder } = this.app.state;
    if (!session) return;
    if (!session.done) await this.app.sessions.toggleDone();
    const rest = folder?.entries.slice(this.#index() + 1).find(({ done }) => !done);
    if (rest) await this.app.sessions.open(rest.path);
  }

  #show() {
    const { session, folder } = this.app.state;
    const index = this.#index();
    const count = folder?.entries.length ?? 0;
    byId("name").textContent = session ? session.path.split("/").pop() : text("nothingOpen");
    byId("name").title = session?.path ?? "";
    byId("place").textContent = index >= 0 && count > 1 ? `${index + 1} / ${count}` : "";
    byId("previous").disabled = index <= 0;
    byId("next").disabled = index < 0 || index + 1 >= count;
    for (const id of ["previous", "next", "place"]) byId(id).hidden = count < 2;
    byId("done").hidden = !session;
    byId("done").setAttribute("aria-pressed", String(Boolean(session?.done)));
  }
}
