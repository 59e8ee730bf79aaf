import { api, upload } from "../core/api.js";
import { byId, icon, make } from "../core/dom.js";
import { notice, say, tell } from "../core/say.js";
import { onLanguage, text } from "../core/text.js";

/** Opening: the folder given at start, upload, drag and drop. */
export class Open {
  #path = "";

  constructor(app) {
    this.app = app;
    this.dialog = byId("open-dialog");
    byId("open").addEventListener("click", () => this.show());
    byId("welcome-open").addEventListener("click", () => this.show());
    for (const id of ["upload", "welcome-upload"]) {
      byId(id).addEventListener("click", () => byId("upload-file").click());
    }
    byId("upload-file").addEventListener("change", (event) => this.#take([...event.target.files]));
    document.addEventListener("dragover", (event) => this.#over(event));
    document.addEventListener("dragleave", (event) => event.relatedTarget ?? this.#drop(false));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#drop(false);
      this.#take([...event.dataTransfer.files]);
    });
    onLanguage(() => this.dialog.open && this.#browse(this.#path));
  }

  show() {
    if (this.dialog.open) return;
    this.dialog.showModal();
    this.#browse(this.app.state.folder?.path ?? this.#path);
  }

  #over(event) {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    this.#drop(true);
  }

  #drop(over) {
    byId("drop").hidden = !over;
  }

  async #take(files) {
    if (!files.length) return;
    this.show(); // where the progress is seen
    let first = null;
    for (const file of files) {
      const most = this.app.state.info.limits.upload_bytes;
      if (most && file.size > most) {
        notice(text("tooLarge", { name: file.name, most: bytes(most) }), "fault");
        continue;
      }
      byId("upload-row").hidden = false;
      byId("upload-name").textContent = file.name;
      try {
        const { path } = await upload(file, (share) => (byId("upload-progress").value = share));
        first ??= path;
      } catch (error) {
        tell(error);
      }
    }
    byId("upload-row").hidden = true;
    byId("upload-file").value = "";
    if (first && (await this.app.sessions.open(first))) this.dialog.close();
  }

  async #browse(path) {
    try {
      const { path: here, parent, entries } = await api.browse(path);
      this.#path = here ?? path;
      byId("browse-path").textContent = `/${this.#path}`;
      const rows = entries.map((entry) => this.#row(entry));
      if (parent !== null && parent !== undefined) rows.unshift(this.#row({ name: "..", path: parent, kind: "folder" }));
      if (!entries.length) rows.push(make("li", { class: "empty" }, text("emptyFolder")));
      byId("browse-list").replaceChildren(...rows);
      byId("browse-list").querySelector("button")?.focus();
    } catch (error) {
      if (path) this.#browse("");
      else tell(error);
    }
  }

  #row({ name, path, kind, bytes: size, done }) {
    const act = () => (kind === "folder" ? this.#browse(path) : this.#choose(path));
    const button = make("button", { type: "button", onclick: act }, icon(kind), make("span", { class: "entry" }, name));
    if (name === "..") button.setAttribute("aria-label", text("parentFolder"));
    if (done) button.append(make("span", { class: "done-mark" }, icon("check"), text("doneMark")));
    if (size !== undefined && kind !== "folder") button.append(make("span", { class: "bytes" }, bytes(size)));
    return make("li", {}, button);
  }

  async #choose(path) {
    say(text("opening"));
    if (await this.app.sessions.open(path)) {
      this.dialog.close();
      byId("canvas").focus({ preventScroll: true });
    }
  }
}

export function bytes(size) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${size < 10 && unit ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}
