import { api, exportUrl } from "../core/api.js";
import { byId, make } from "../core/dom.js";
import { say, tell } from "../core/say.js";
import { onLanguage, text, translated } from "../core/text.js";

const POLL = 500; // milliseconds; events come sooner, asking is for those that were missed

/** Exports: a format, its options, progress, the file. */
export class Exporting {
  #jobs = new Map(); // id -> {node, bar, words, end}

  constructor(app) {
    this.app = app;
    this.dialog = byId("export-dialog");
    byId("export-open").addEventListener("click", () => this.show());
    byId("export-format").addEventListener("change", () => this.#options());
    byId("export-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
    onLanguage(() => this.dialog.open && this.#formats());
  }

  show() {
    if (!this.app.state.session || this.dialog.open) return;
    this.#formats();
    this.dialog.showModal();
  }

  #formats() {
    const { info, session } = this.app.state;
    const select = byId("export-format");
    const before = select.value;
    const fitting = info.export_formats.filter(({ kinds }) => kinds.includes(session.kind));
    select.replaceChildren(...fitting.map(({ name, title }) => new Option(translated(`format-${name}`, title), name)));
    if (fitting.some(({ name }) => name === before)) select.value = before;
    this.#options();
  }

  #format() {
    return this.app.state.info.export_formats.find(({ name }) => name === byId("export-format").value);
  }

  #options() {
    const options = Object.entries(this.#format()?.options ?? {});
    byId("export-options").replaceChildren(...options.map(([key, option]) => field(key, option)));
  }

  async #start() {
    const format = this.#format();
    const values = {};
    for (const input of byId("export-options").querySelectorAll("[data-option]")) values[input.dataset.option] = read(input);
    try {
      const { id } = await api.startExport(this.app.state.session.id, format.name, values);
      this.#add(id, translated(`format-${format.name}`, format.title));
      this.#poll(id);
    } catch (error) {
      tell(error);
    }
  }

  #add(id, title) {
    const bar = make("progress", { max: 1, value: 0 });
    bar.setAttribute("aria-label", title);
    const state = make("span", { class: "job-state" });
    const end = make("span", { class: "job-end" });
    const cancel = make("button", { type: "button", class: "quiet" }, text("cancel"));
    cancel.addEventListener("click", () => api.cancelExport(id).catch(tell));
    end.append(cancel);
    const node = make("li", { class: "job" }, make("strong", {}, title), bar, state, end);
    node.dataset.export = id;
    byId("export-jobs").prepend(node);
    this.#jobs.set(id, { node, bar, state, end, title, over: false });
  }

  hear({ id, ...job }) {
    const shown = this.#jobs.get(id);
    if (!shown || shown.over) return;
    shown.bar.value = job.progress ?? 0;
    if (job.state === "running") return;
    shown.over = true;
    shown.node.dataset.state = job.state;
    shown.bar.hidden = true;
    shown.end.replaceChildren();
    if (job.state === "done") {
      const link = make("a", { href: exportUrl(id), download: job.name ?? "", class: "button primary" }, text("download"));
      shown.end.append(link);
      shown.state.textContent = job.name ?? "";
      say(text("exportReady", { name: job.name ?? shown.title }));
    } else {
      shown.state.textContent = job.detail || text("exportFailed");
      say(text("exportFailed"));
    }
  }

  async #poll(id) {
    while (!this.#jobs.get(id).over) {
      try {
        this.hear({ ...(await api.exportState(id)), id });
      } catch (error) {
        if (error.status !== 0) this.hear({ id, state: "failed", detail: error.message });
      }
      await new Promise((resolve) => setTimeout(resolve, POLL));
    }
  }
}

function field(key, { title, type, default: value, choices = [], min, max, step }) {
  const id = `option-${key}`;
  let input;
  if (type === "choice") {
    input = make("select", { id }, ...choices.map((choice) => {
      const { value: own, title: name } = typeof choice === "object" ? choice : { value: choice, title: choice };
      return new Option(translated(`choice-${own}`, String(name)), own);
    }));
    input.value = value;
  } else if (type === "boolean") input = make("input", { id, type: "checkbox", checked: Boolean(value) });
  else input = make("input", { id, type, value, min, max, step });
  input.dataset.option = key;
  const named = make("label", { htmlFor: id }, translated(`option-${key}`, title ?? key));
  return make("div", { class: "field" }, named, input);
}

function read(input) {
  if (input.type === "checkbox") return input.checked;
  if (input.type === "number") return input.valueAsNumber;
  return input.value;
}
