import { Brush } from "./canvas/brush.js";
import { Crosshair } from "./canvas/crosshair.js";
import { Hover } from "./canvas/hover.js";
import { Painter } from "./canvas/painter.js";
import { Pointer } from "./canvas/pointer.js";
import { View } from "./canvas/view.js";
import { api } from "./core/api.js";
import { byId, settled } from "./core/dom.js";
import { say, tell } from "./core/say.js";
import { initialState, Store } from "./core/store.js";
import { onLanguage, startText, text } from "./core/text.js";
import { setTheme, theme } from "./core/theme.js";
import { Help, Keys } from "./keys.js";
import { MaskCache } from "./mask/cache.js";
import { Choices } from "./panels/choices.js";
import { Exporting } from "./panels/exporting.js";
import { Objects } from "./panels/objects.js";
import { Open } from "./panels/open.js";
import { Player } from "./panels/player.js";
import { Timeline } from "./panels/timeline.js";
import { Toolbar } from "./panels/toolbar.js";
import { Acts } from "./session/acts.js";
import { Auto } from "./session/auto.js";
import { Folder } from "./session/folder.js";
import { Live } from "./session/live.js";
import { Prompts } from "./session/prompts.js";
import { Sessions } from "./session/sessions.js";
import { Tracking } from "./session/tracking.js";

const AHEAD = 16; // frames fetched before they are needed
const HURRY = 120; // milliseconds between two frames below which the user is looking for a place

/** The medium that the page's address names. */
const asked = () => decodeURIComponent(location.hash.slice(1));

/** The page: one object a concern, which find one another here. */
class App {
  frames = null;
  words = { lookNext: () => text("lookNextShort") };
  #direction = 1;
  #soughtAt = 0;

  constructor() {
    this.store = new Store(initialState());
    this.masks = new MaskCache(
      (first, last) => api.masks(this.state.session.id, first, last),
      (frame) => frame === this.state.frame && this.#masksChanged(),
    );
    this.prompts = new Prompts(this);
    this.acts = new Acts(this);
    this.sessions = new Sessions(this);
    this.view = new View(() => this.painter?.paint());
    this.brush = new Brush(this);
    this.hover = new Hover(this);
    this.live = new Live(this);
    this.crosshair = new Crosshair(this);
    this.pointer = new Pointer(this);
    this.painter = new Painter(this);
    this.choices = new Choices(this);
    this.timeline = new Timeline(this);
    this.objects = new Objects(this);
    this.player = new Player(this);
    this.tracking = new Tracking(this);
    this.auto = new Auto(this);
    this.folder = new Folder(this);
    this.opening = new Open(this);
    this.exporting = new Exporting(this);
    this.toolbar = new Toolbar(this);
    this.keys = new Keys(this);
    this.help = new Help(this.keys);
    this.store.on("waiting", ({ waiting }) => (byId("stage").dataset.waiting = waiting), true);
    this.store.on("connected", ({ connected }) => (byId("offline").hidden = connected), true);
    this.store.on("session", () => this.painter.paintTop());
    onLanguage(() => this.painter.paint());
  }

  get state() {
    return this.store.state;
  }

  /** Shows a frame. */
  seek(frame) {
    const { session, frame: before, choices } = this.state;
    if (!session) return;
    if (frame !== before) {
      this.#direction = frame < before ? -1 : 1;
      this.hover.clear();
      if (choices) this.choices.close();
    }
    const hurried = frame !== before && !this.state.playing && performance.now() - this.#soughtAt < HURRY;
    this.#soughtAt = performance.now();
    this.store.set({ frame });
    this.#wantFrames(hurried);
    this.wantMasks();
    this.painter.paint();
    this.#rest(session.id, frame);
  }

  #wantFrames(hurried) {
    const { session, frame } = this.state;
    this.frames.fit(Math.ceil(this.view.size[0] * this.view.scale * devicePixelRatio), hurried);
    this.frames.want(frame, this.#direction, hurried ? 1 : Math.min(AHEAD, session.frames - 1));
  }

  wantMasks() {
    const { session, frame } = this.state;
    if (session) this.masks.want(frame, session.frames, this.#direction);
  }

  /** Where the user stays, clicks should be quick: the model looks at the frame before the first one. */
  #rest = settled((id, frame) => {
    const { session, playing } = this.state;
    if (session?.id !== id || playing) return;
    this.#wantFrames(false);
    if (session.job) return;
    sessionStorage.setItem(`sam2.frame.${id}`, frame);
    api.embed(id, frame).catch(() => undefined); // only a preparation; the click itself will tell
  }, 150);

  #masksChanged() {
    this.painter.paint();
    this.objects.refresh();
  }

  toggleMasks() {
    this.store.set({ masksShown: !this.state.masksShown });
    this.painter.paint();
    say(text(this.state.masksShown ? "masksOn" : "masksOff"));
  }

  /** Escape stops what is under way, the nearest thing first. */
  escape() {
    const stopped = this.pointer.cancel() || this.crosshair.cancel() || this.choices.close() || this.auto.close();
    if (!stopped) this.tracking.stop();
  }

  /** The server answers before it has loaded its models: asks again until it has. */
  async #learn() {
    const info = await api.info();
    this.store.set({ info });
    if (info.loading) setTimeout(() => this.#learn().catch(() => undefined), 2000);
  }

  async start() {
    try {
      await this.#learn();
    } catch (error) {
      return tell(error);
    }
    window.addEventListener("hashchange", () => {
      if (asked() && asked() !== this.state.session?.path) this.sessions.open(asked());
    });
    const wanted = asked() || this.state.info.path;
    if (wanted && (await this.sessions.open(wanted))) return;
    this.folder.follow("");
    byId("welcome-open").focus();
  }
}

setTheme(theme());
startText();
for (const button of document.querySelectorAll("dialog [data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
const app = new App();
await app.start();
document.body.dataset.started = "yes";
