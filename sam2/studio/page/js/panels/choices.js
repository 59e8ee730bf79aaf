import { byId, make } from "../core/dom.js";
import { text } from "../core/text.js";
import { percent } from "../session/prompts.js";

const SIZE = 92; // CSS pixels of one small picture

/** After an ambiguous click: the masks it may have meant, side by side. */
export class Choices {
  constructor(app) {
    this.app = app;
    app.store.on("choices", () => this.#show());
  }

  offer(frame, object, { choices, mask }) {
    const same = choices.findIndex((choice) => JSON.stringify(choice.mask) === JSON.stringify(mask));
    const best = choices.reduce((top, choice, index) => (choice.iou > choices[top].iou ? index : top), 0);
    this.app.store.set({ choices: { frame, object, masks: choices, chosen: same < 0 ? best : same } });
  }

  close() {
    if (!this.app.state.choices) return false;
    this.app.store.set({ choices: null });
    return true;
  }

  async choose(index) {
    const { choices } = this.app.state;
    if (!choices || index >= choices.masks.length) return;
    choices.chosen = index;
    this.app.store.set({ choices });
    this.app.painter.paint();
    await this.app.prompts.choose(index);
  }

  #show() {
    const { choices } = this.app.state;
    byId("choices").hidden = !choices;
    byId("choice-list").replaceChildren(...(choices?.masks.map((choice, index) => this.#button(choice, index)) ?? []));
  }

  #button({ mask, iou }, index) {
    const canvas = make("canvas", { width: SIZE * 2, height: SIZE * 2 });
    this.#draw(canvas, mask);
    const button = make("button", { type: "button", class: "choice", onclick: () => this.choose(index) }, canvas);
    button.append(make("span", {}, make("kbd", {}, String(index + 1)), ` ${percent(iou)}`));
    button.setAttribute("aria-pressed", String(index === this.app.state.choices.chosen));
    button.setAttribute("aria-label", text("choice", { number: index + 1, iou: percent(iou) }));
    return button;
  }

  /** Middle and side of the square that holds all choices, with some of what is around them. */
  #region() {
    const boxes = this.app.state.choices.masks.map(({ mask }) => this.app.masks.shape(mask).box);
    const ends = (axis, pick) => pick(...boxes.map((box) => box[axis]));
    const [left, top] = [ends(0, Math.min), ends(1, Math.min)];
    const [right, bottom] = [ends(2, Math.max), ends(3, Math.max)];
    return [(left + right) / 2, (top + bottom) / 2, Math.max(16, right - left, bottom - top) * 1.3];
  }

  #draw(canvas, mask) {
    const { app } = this;
    const { session, frame } = app.state;
    const context = canvas.getContext("2d");
    const [middleX, middleY, side] = this.#region();
    const scale = canvas.width / side;
    context.setTransform(scale, 0, 0, scale, (side / 2 - middleX) * scale, (side / 2 - middleY) * scale);
    const picture = app.frames.get(frame);
    if (picture) context.drawImage(picture, 0, 0, session.width, session.height);
    const shape = app.masks.shape(mask);
    if (shape.empty) return;
    const [x, y, right, bottom] = shape.box;
    context.globalAlpha = 0.7;
    context.drawImage(shape.tint(app.objects.activeColor()), x, y, right - x, bottom - y);
  }
}
