import { drawMask } from "./masks.js";

/** What moves with the pointer: hover preview, brush, prompts, box being dragged, crosshair. */
export function drawMarks(context, app) {
  const unit = 1 / app.view.scale; // one screen pixel
  const { session, frame, object } = app.state;
  if (!app.state.live) {
    drawPreview(context, app);
    app.brush.draw(context, unit);
    for (const prompt of session.prompts) {
      if (prompt.frame !== frame) continue;
      const item = session.objects.find(({ id }) => id === prompt.object);
      if (item?.visible) drawPrompt(context, unit, prompt, item, prompt.object === object);
    }
  } else app.live.drawPrompts(context, unit);
  if (app.pointer.box) drawBox(context, unit, app.pointer.box, "#ffffff", true);
  drawCrosshair(context, unit, app);
}

function drawPreview(context, app) {
  const mask = app.hover.mask;
  if (!mask) return;
  const color = app.objects.activeColor();
  drawMask(context, app.masks.shape(mask), { color, opacity: 0.35, outline: true }, app.view.scale, false);
}

function drawPrompt(context, unit, prompt, item, active) {
  if (prompt.box) drawBox(context, unit, prompt.box, item.color, active);
  for (const [x, y, positive] of prompt.points) {
    drawPoint(context, unit, x + 0.5, y + 0.5, positive, item.color, active);
  }
}

/** A disc with a plus or a minus: told apart by shape as well as by colour. */
export function drawPoint(context, unit, x, y, positive, color, active) {
  const radius = (active ? 8 : 6) * unit;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = positive ? color : "#ffffff";
  context.fill();
  context.lineWidth = 2 * unit;
  context.strokeStyle = positive ? "#ffffff" : "#c62828";
  context.stroke();
  context.beginPath();
  const arm = radius * 0.5;
  context.moveTo(x - arm, y);
  context.lineTo(x + arm, y);
  if (positive) {
    context.moveTo(x, y - arm);
    context.lineTo(x, y + arm);
  }
  context.stroke();
}

export function drawBox(context, unit, [left, top, right, bottom], color, active) {
  context.lineWidth = 4 * unit;
  context.strokeStyle = "rgba(0, 0, 0, 0.45)";
  context.strokeRect(left, top, right - left, bottom - top);
  context.lineWidth = 2 * unit;
  context.strokeStyle = color;
  context.setLineDash(active ? [] : [6 * unit, 4 * unit]);
  context.strokeRect(left, top, right - left, bottom - top);
  context.setLineDash([]);
}

function drawCrosshair(context, unit, app) {
  const { crosshair } = app;
  if (!crosshair.shown) return;
  const { x, y } = crosshair;
  const cx = Math.floor(x) + 0.5;
  const cy = Math.floor(y) + 0.5;
  for (const [width, style] of [[4, "rgba(0, 0, 0, 0.55)"], [1.5, "#ffffff"]]) {
    context.lineWidth = width * unit;
    context.strokeStyle = style;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(cx + dx * 5 * unit, cy + dy * 5 * unit);
      context.lineTo(cx + dx * 22 * unit, cy + dy * 22 * unit);
    }
    context.stroke();
  }
  const box = crosshair.corner && crosshair.boxTo();
  if (box) drawBox(context, unit, box, "#ffffff", true);
}
