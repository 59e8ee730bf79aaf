import { api } from "../core/api.js";
import { byId, icon, make, settled } from "../core/dom.js";
import { say, tell } from "../core/say.js";
import { onLanguage, text } from "../core/text.js";
import { percent } from "../session/prompts.js";

const NEXT_COLOR = "#2f7de1";

/** The list of objects: which one clicks go to, names, colours, visibility, opacity, outline. */
export class Objects {
  #rows = new Map(); // id -> row
  #creating = null;

  constructor(app) {
    this.app = app;
    byId("new-object").addEventListener("click", () => this.fresh());
    byId("clear").addEventListener("click", () => app.prompts.clear());
    byId("remove").addEventListener("click", () => this.remove());
    byId("color").addEventListener("input", settled((event) => this.#change({ color: event.target.value }), 120));
    byId("opacity").addEventListener("input", (event) => {
      this.#paintAs({ opacity: event.target.value / 100 });
      this.#sendOpacity(event.target.value / 100);
    });
    byId("outline").addEventListener("change", (event) => this.#change({ outline: event.target.checked }));
    app.store.on("session object frame choices waiting", () => this.#show(), true);
    onLanguage(() => this.#show());
  }

  #sendOpacity = settled((opacity) => this.#change({ opacity }), 200);

  active() {
    const { session, object } = this.app.state;
    return session?.objects.find(({ id }) => id === object) ?? null;
  }

  activeColor() {
    return this.active()?.color ?? NEXT_COLOR;
  }

  choose(id) {
    this.app.choices.close();
    this.app.hover.clear();
    this.app.store.set({ object: id });
    this.app.painter.paint();
    say(text("objectChosen", { name: this.active()?.name ?? "" }));
  }

  /** The next click begins a new object. */
  fresh() {
    if (!this.app.state.session) return;
    this.app.choices.close();
    this.#creating = null; // one that is being made is not meant any more
    this.app.store.set({ object: null });
    this.app.painter.paint();
    say(text("freshSays"));
  }

  step(by) {
    const { session, object } = this.app.state;
    if (!session?.objects.length) return;
    const index = session.objects.findIndex(({ id }) => id === object);
    const next = session.objects.at((index + by) % session.objects.length);
    this.choose(index < 0 ? session.objects.at(by > 0 ? 0 : -1).id : next.id);
  }

  /** The active object's id; makes the object first where there is none. */
  async ensure() {
    const { session, object } = this.app.state;
    if (object !== null) return object;
    const creating = (this.#creating ??= api.addObject(session.id));
    try {
      const made = await creating;
      this.adopt(made, this.#creating === creating);
      return made.id;
    } catch (error) {
      tell(error);
      return null;
    } finally {
      if (this.#creating === creating) this.#creating = null;
    }
  }

  /** Shows an object that the server has just made, before its event comes. */
  adopt(object, active = true) {
    const { session } = this.app.state;
    if (!session.objects.some(({ id }) => id === object.id)) session.objects.push(object);
    this.app.store.set(active ? { session, object: object.id } : { session });
  }

  #paintAs(change) {
    const object = this.active();
    if (!object) return;
    Object.assign(object, change);
    this.app.painter.paint();
  }

  async #change(change, object = this.active()) {
    if (!object) return;
    Object.assign(object, change);
    this.app.painter.paint();
    this.app.timeline.draw();
    this.#show();
    const { session } = this.app.state;
    await this.app.sessions.run(() => api.changeObject(session.id, object.id, change));
  }

  toggle(what) {
    const object = this.active();
    if (object) this.#change({ [what]: !object[what] });
  }

  async remove() {
    const object = this.active();
    if (!object) return;
    const { session } = this.app.state;
    this.app.choices.close();
    await this.app.sessions.run(() => api.removeObject(session.id, object.id));
    await this.app.sessions.refresh();
    say(text("objectRemoved", { name: object.name }));
  }

  #show() {
    const { session, object } = this.app.state;
    const list = byId("object-list");
    const objects = session?.objects ?? [];
    for (const [id, row] of this.#rows) {
      if (objects.some((item) => item.id === id)) continue;
      row.node.remove();
      this.#rows.delete(id);
    }
    objects.forEach((item, index) => {
      if (!this.#rows.has(item.id)) this.#rows.set(item.id, this.#row(item.id));
      const row = this.#rows.get(item.id);
      if (list.children[index] !== row.node) list.insertBefore(row.node, list.children[index] ?? null);
      this.#fill(row, item, index, item.id === object);
    });
    byId("new-object").disabled = !session;
    byId("new-object").setAttribute("aria-pressed", String(Boolean(session) && object === null));
    byId("object-hint").hidden = !session || object !== null;
    this.#showDetails();
  }

  #showDetails() {
    const item = this.active();
    byId("object-details").hidden = !item;
    if (!item) return;
    if (document.activeElement !== byId("color")) byId("color").value = item.color;
    if (document.activeElement !== byId("opacity")) byId("opacity").value = Math.round(item.opacity * 100);
    byId("outline").checked = item.outline;
    const { frame } = this.app.state;
    const { points, box, mask } = this.app.prompts.of(frame, item.id);
    byId("clear").disabled = !points.length && !box && !mask;
  }

  #row(id) {
    const item = () => this.app.state.session.objects.find((object) => object.id === id);
    const pick = make("button", { type: "button", class: "pick", onclick: () => this.choose(id) });
    const name = make("input", { type: "text", class: "object-name", maxLength: 80, spellcheck: false });
    name.addEventListener("change", () => this.#change({ name: name.value.trim() || item().name }, item()));
    name.addEventListener("focus", () => this.app.state.object !== id && this.choose(id));
    name.addEventListener("keydown", (event) => event.key === "Enter" && name.blur());
    const score = make("span", { class: "score" });
    const eye = make("button", { type: "button", class: "quiet" });
    eye.addEventListener("click", () => this.#change({ visible: !item().visible }, item()));
    const node = make("li", { class: "object" }, pick, name, score, eye);
    return { node, pick, name, score, eye };
  }

  #fill(row, item, index, active) {
    const { frame, waiting } = this.app.state;
    const result = this.app.masks.get(frame, item.id);
    row.node.classList.toggle("active", active);
    row.pick.style.setProperty("--object", item.color);
    row.pick.textContent = String(index + 1);
    row.pick.setAttribute("aria-pressed", String(active));
    row.pick.setAttribute("aria-label", text("chooseObject", { name: item.name }));
    if (document.activeElement !== row.name) row.name.value = item.name;
    row.name.setAttribute("aria-label", text("objectName", { name: item.name }));
    row.score.textContent = active && waiting ? "…" : result ? percent(result.iou) : "–";
    row.score.title = text("scoreTitle");
    if (row.eye.getAttribute("aria-pressed") !== String(item.visible)) {
      row.eye.replaceChildren(icon(item.visible ? "eye" : "eye-off"));
    }
    row.eye.setAttribute("aria-pressed", String(item.visible));
    row.eye.setAttribute("aria-label", text("showObject", { name: item.name }));
  }

  /** The scores of the frame that is shown have changed. */
  refresh() {
    this.#show();
  }
}
