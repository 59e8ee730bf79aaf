import { byId, clamp } from "../core/dom.js";
import { label, language, onLanguage, setLanguage, text } from "../core/text.js";
import { nextTheme, theme } from "../core/theme.js";

/** Tools at the left, and what stands in the bar above: undo, model, theme, language. */
export class Toolbar {
  constructor(app) {
    this.app = app;
    const press = (id, work) => byId(id).addEventListener("click", work);
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.use(button.dataset.tool));
    }
    press("undo", () => app.sessions.undo());
    press("redo", () => app.sessions.redo());
    press("auto-start", () => app.auto.start());
    press("live-start", () => (app.state.live ? app.live.stop() : app.live.start()));
    press("zoom-in", () => app.view.zoom(1.5));
    press("zoom-out", () => app.view.zoom(1 / 1.5));
    press("zoom-fit", () => app.view.fit());
    press("theme", () => {
      nextTheme();
      this.#showTheme();
    });
    press("language", () => setLanguage(language() === "en" ? "zh" : "en"));
    byId("brush-size").addEventListener("input", (event) => this.size(event.target.valueAsNumber));
    byId("hover-shown").addEventListener("change", (event) => {
      app.store.set({ hoverShown: event.target.checked });
      app.hover.clear();
    });
    byId("model").addEventListener("change", (event) => app.sessions.change({ model: event.target.value }));
    app.store.on("tool brush", () => this.#showTool(), true);
    app.store.on("session live info", () => this.#showSession(), true);
    onLanguage(() => {
      this.#showTheme();
      this.#showSession();
    });
    this.#showTheme();
  }

  use(tool) {
    this.app.hover.clear();
    this.app.crosshair.cancel();
    this.app.store.set({ tool });
    this.app.painter.paintTop();
  }

  size(diameter) {
    this.app.store.set({ brush: clamp(Math.round(diameter), 1, 400) });
    this.app.painter.paintTop();
  }

  #showTool() {
    const { tool, brush } = this.app.state;
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
    byId("brush-row").hidden = tool !== "brush" && tool !== "eraser";
    byId("brush-size").value = brush;
    byId("brush-value").textContent = `${brush} px`;
    byId("canvas").dataset.tool = tool;
  }

  #showSession() {
    const { session, live, info } = this.app.state;
    byId("undo").disabled = !session?.can_undo;
    byId("redo").disabled = !session?.can_redo;
    for (const id of ["auto-start", "export-open", "zoom-in", "zoom-out", "zoom-fit"]) {
      byId(id).disabled = !session && !(live && id.startsWith("zoom"));
    }
    byId("live-start").setAttribute("aria-pressed", String(live));
    byId("live-bar").hidden = !live;
    byId("welcome").hidden = Boolean(session) || live;
    byId("preparing").hidden = !session || (session.ready && !session.restoring);
    byId("preparing").textContent = text(session?.restoring ? "restoring" : "preparing");
    document.body.dataset.kind = live ? "live" : (session?.kind ?? "none");
    const model = byId("model");
    if (info && model.options.length !== info.models.length) {
      model.replaceChildren(...info.models.map(({ name, title, available }) => {
        const option = new Option(title ?? name, name);
        option.disabled = !available;
        return option;
      }));
    }
    model.hidden = (info?.models.length ?? 0) < 2;
    model.disabled = !session;
    if (session) model.value = session.model;
  }

  #showTheme() {
    label(byId("theme"), text("themeIs", { theme: text(`theme-${theme()}`) }));
    byId("theme").querySelector("use").setAttribute("href", `/page/icons.svg#theme-${theme()}`);
    byId("language-name").textContent = language() === "en" ? "中文" : "English";
    label(byId("language"), text("languageSwitch"));
  }
}
