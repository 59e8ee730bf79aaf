import { byId, make } from "./core/dom.js";
import { onLanguage, text } from "./core/text.js";

/** All keys in one table: the dispatcher, the help and the tooltips read it. "Mod" is Ctrl, or Cmd on a Mac. */
function table(app) {
  const tool = (name) => () => app.toolbar.use(name);
  return [
    ["helpCanvas", [
      ["c", "toolClick", tool("click")],
      ["b", "toolBox", tool("box")],
      ["p", "toolBrush", tool("brush")],
      ["e", "toolEraser", tool("eraser")],
      ["h", "toolHand", tool("hand")],
      ["<", "brushSmaller", () => app.toolbar.size(app.state.brush / 1.25 - 0.5)],
      [">", "brushLarger", () => app.toolbar.size(app.state.brush * 1.25 + 0.5)],
      ["1", "choose1", () => app.choices.choose(0)],
      ["2", "choose2", () => app.choices.choose(1)],
      ["3", "choose3", () => app.choices.choose(2)],
      ["w", "hoverToggle", () => byId("hover-shown").click()],
      ["m", "masksToggle", () => app.toggleMasks()],
      ["+", "zoomIn", () => app.view.zoom(1.5)],
      ["-", "zoomOut", () => app.view.zoom(1 / 1.5)],
      ["0", "zoomFit", () => app.view.fit()],
    ]],
    ["helpObjects", [
      ["n", "newObject", () => app.objects.fresh()],
      ["]", "objectNext", () => app.objects.step(1)],
      ["[", "objectPrevious", () => app.objects.step(-1)],
      ["v", "objectVisible", () => app.objects.toggle("visible")],
      ["o", "objectOutline", () => app.objects.toggle("outline")],
      ["Backspace", "takeBack", () => app.prompts.takeBack()],
      ["Delete", "clearPrompts", () => app.prompts.clear()],
      ["Shift+Delete", "objectRemove", () => app.objects.remove()],
      ["Mod+z", "undo", () => app.sessions.undo()],
      ["Mod+Shift+z", "redo", () => app.sessions.redo()],
      ["Mod+y", "redo", () => app.sessions.redo()],
      ["a", "autoStart", () => app.auto.start()],
    ]],
    ["helpClip", [
      ["Space", "playPause", () => app.player.toggle()],
      [",", "stepBack", () => app.player.step(-1)],
      [".", "stepOn", () => app.player.step(1)],
      ["j", "toPromptBack", () => app.player.toPrompt(-1)],
      ["k", "toPromptOn", () => app.player.toPrompt(1)],
      ["l", "lookNext", () => app.player.lookNext()],
      ["g", "goToFrame", () => byId("frame-number").select()],
      ["f", "trackForward", () => app.tracking.start("forward")],
      ["r", "trackBackward", () => app.tracking.start("backward")],
      ["t", "trackBoth", () => app.tracking.start("both")],
      ["Escape", "escape", () => app.escape()],
    ]],
    ["helpFiles", [
      ["Mod+o", "open", () => app.opening.show()],
      ["PageUp", "previous", () => app.folder.step(-1)],
      ["PageDown", "next", () => app.folder.step(1)],
      ["d", "done", () => app.sessions.toggleDone()],
      ["Mod+Enter", "finish", () => app.folder.finish()],
      ["s", "export", () => app.exporting.show()],
      ["?", "help", () => app.help.show()],
    ]],
  ];
}

const MAC = navigator.platform.startsWith("Mac");

function nameOf(event) {
  let key = event.key === " " ? "Space" : event.key;
  if (key.length === 1 && /[a-z]/i.test(key)) key = key.toLowerCase();
  if (key === "=") key = "+";
  const mod = event.ctrlKey || event.metaKey ? "Mod+" : "";
  const shift = event.shiftKey && (key.length > 1 || mod) ? "Shift+" : "";
  return mod + shift + key;
}

export const shown = (key) => key.replace("Mod", MAC ? "⌘" : "Ctrl");

const TYPING = "input:not([type=checkbox]):not([type=range]):not([type=radio]), textarea, select";

/** Keys work wherever the focus is, except while typing and in dialogs; single ones can be switched off. */
export class Keys {
  constructor(app) {
    this.sections = table(app);
    const actions = new Map(this.sections.flatMap(([, rows]) => rows.map(([key, , run]) => [key, run])));
    document.addEventListener("keydown", (event) => {
      const name = nameOf(event);
      const single = !name.includes("Mod");
      if (document.querySelector("dialog[open]") || event.altKey || event.defaultPrevented) return;
      if (single && name !== "Escape" && (event.target.matches(TYPING) || !byId("single-keys").checked)) return;
      if (!single && event.target.matches("input[type=text]") && name !== "Mod+Enter") return;
      if (name === "Space" && event.target.matches("button, a, input, summary")) return;
      const run = actions.get(name);
      if (!run) return;
      event.preventDefault();
      run();
    });
  }
}

/** The help that `?` shows. */
export class Help {
  constructor(keys) {
    this.keys = keys;
    this.dialog = byId("help-dialog");
    byId("help").addEventListener("click", () => this.show());
    byId("single-keys").checked = localStorage.getItem("sam2.singleKeys") !== "no";
    byId("single-keys").addEventListener("change", (event) => {
      localStorage.setItem("sam2.singleKeys", event.target.checked ? "yes" : "no");
    });
    onLanguage(() => this.#fill());
    this.#fill();
  }

  show() {
    if (!this.dialog.open) this.dialog.showModal();
  }

  #fill() {
    byId("help-keys").replaceChildren(...this.keys.sections.map(([title, rows]) => {
      const list = make("dl", {});
      for (const [key, words] of rows) {
        list.append(make("dt", {}, make("kbd", {}, shown(key))), make("dd", {}, text(words)));
      }
      return make("section", {}, make("h3", {}, text(title)), list);
    }));
  }
}
