import { socket } from "../core/api.js";
import { byId } from "../core/dom.js";
import { notice, say } from "../core/say.js";
import { text } from "../core/text.js";
import { drawBox, drawPoint } from "../canvas/marks.js";
import { drawMask } from "../canvas/masks.js";

const COLORS = ["#2f7de1", "#e07b39", "#2f9e6a", "#c65fa8", "#b9901f", "#1f9fb5"];
const WIDTH = 640;
const RETRY = 1000; // milliseconds after an error

/**
 * The browser's camera, tracked as it comes. The next picture is sent when the answer to the last is here, so
 * a slow model drops pictures instead of queueing them; each mask is drawn over the picture it belongs to.
 */
export class Live {
  #link = null;
  #stream = null;
  #objects = new Map(); // id -> {color, points, box}
  #results = [];
  #shown = null; // bitmap that #results belong to
  #sent = null;
  #sequence = 0;
  #active = null;

  constructor(app) {
    this.app = app;
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    byId("live-stop").addEventListener("click", () => this.stop());
    byId("live-new").addEventListener("click", () => this.fresh());
  }

  async start() {
    const { app } = this;
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: { width: WIDTH }, audio: false });
    } catch (error) {
      return notice(text("noCamera", { why: error.message }), "fault");
    }
    this.video.srcObject = this.#stream;
    await this.video.play();
    app.sessions.leave();
    this.fresh();
    const scale = Math.min(1, WIDTH / this.video.videoWidth);
    this.size = [Math.round(this.video.videoWidth * scale), Math.round(this.video.videoHeight * scale)];
    this.picture = new OffscreenCanvas(...this.size);
    app.store.set({ live: true });
    app.view.setPicture(...this.size);
    app.crosshair.centre();
    this.#link = socket("/live");
    this.#link.binaryType = "arraybuffer";
    this.#link.onopen = () => this.#send();
    this.#link.onmessage = (message) => this.#hear(JSON.parse(message.data));
    this.#link.onclose = () => this.app.state.live && this.stop();
    say(text("liveBegan"));
  }

  stop() {
    if (!this.app.state.live) return;
    this.app.store.set({ live: false });
    this.#link.close();
    for (const track of this.#stream.getTracks()) track.stop();
    this.#objects.clear();
    this.#results = [];
    this.#shown?.close();
    this.#sent?.close();
    this.#shown = this.#sent = null;
    this.app.painter.paint();
  }

  fresh() {
    this.#active = null;
  }

  async #send() {
    this.picture.getContext("2d").drawImage(this.video, 0, 0, ...this.size);
    const blob = await this.picture.convertToBlob({ type: "image/jpeg", quality: 0.85 });
    if (!this.app.state.live) return;
    this.#sent = await createImageBitmap(blob);
    if (this.#link.readyState !== WebSocket.OPEN) return;
    this.#sequence++;
    this.#link.send(await blob.arrayBuffer());
  }

  #hear(event) {
    if (!this.app.state.live) return;
    if (event.type === "error") this.#fail(event.detail);
    if (event.type !== "masks") return;
    const answered = this.#sent !== null; // else it is a prompt's answer, for the picture that is shown
    if (answered) {
      this.#shown?.close();
      this.#shown = this.#sent;
      this.#sent = null;
    }
    this.#results = event.objects;
    byId("live-count").textContent = text("liveFrames", { count: this.#sequence });
    this.app.painter.paint();
    if (answered) requestAnimationFrame(() => this.app.state.live && this.#send());
  }

  /** Goes on where the error was the answer to the picture sent last. */
  #fail(detail) {
    notice(detail, "fault");
    const sent = this.#sent;
    setTimeout(() => {
      if (!sent || this.#sent !== sent || !this.app.state.live) return;
      sent.close();
      this.#sent = null;
      this.#send();
    }, RETRY);
  }

  #tell(object) {
    const { points, box } = this.#objects.get(object);
    this.#link.send(JSON.stringify({ type: "prompt", object, points, box }));
    this.app.painter.paintTop();
  }

  #ensure() {
    if (this.#active === null) {
      this.#active = this.#objects.size + 1;
      const color = COLORS[(this.#active - 1) % COLORS.length];
      this.#objects.set(this.#active, { color, points: [], box: null, since: this.#sequence });
    }
    return this.#objects.get(this.#active);
  }

  /** Points of an earlier picture say nothing of this one, so a click begins anew. */
  click(x, y, positive) {
    if (!positive && this.#active === null) return notice(text("addFirst"));
    Object.assign(this.#ensure(), { points: [[x, y, positive ? 1 : 0]], box: null, since: this.#sequence });
    this.#tell(this.#active);
  }

  box(box) {
    Object.assign(this.#ensure(), { points: [], box, since: this.#sequence });
    this.#tell(this.#active);
  }

  draw(context) {
    if (!this.#shown) return;
    context.drawImage(this.#shown, 0, 0, ...this.size);
    for (const { id, mask } of this.#results) {
      const object = this.#objects.get(id);
      if (!mask || !object) continue;
      const look = { color: object.color, opacity: 0.5, outline: true };
      drawMask(context, this.app.masks.shape(mask), look, this.app.view.scale, id === this.#active);
    }
    this.app.painter.base.dataset.live = this.#sequence;
    this.app.painter.base.dataset.masks = this.#results.filter(({ mask }) => mask).length;
  }

  drawPrompts(context, unit) {
    for (const { color, points, box, since } of this.#objects.values()) {
      if (this.#sequence - since > 8) continue; // the object has moved on
      for (const [x, y, positive] of points) drawPoint(context, unit, x + 0.5, y + 0.5, positive, color, true);
      if (box) drawBox(context, unit, box, color, true);
    }
  }
}
