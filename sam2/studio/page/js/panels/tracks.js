/** Drawing of the timeline's rows. */
export const HEAD = 16; // pixels for the marks above the rows
export const ROW = 18;
const PRESENT = 0.5;

export function drawTracks(context, place, state, style) {
  const ink = style.getPropertyValue("--ink-soft");
  drawHead(context, place, state, style, ink);
  state.session.objects.forEach((object, index) => {
    const top = HEAD + index * ROW;
    if (place.gutter) {
      context.fillStyle = ink;
      context.font = "12px system-ui, sans-serif";
      context.textBaseline = "middle";
      context.fillText(shorten(context, object.name, place.gutter - 16), 4, top + ROW / 2);
    }
    drawRow(context, place, state, object, top, style);
  });
}

function drawHead(context, place, { session, marks }, style, ink) {
  const width = Math.max(1, place.xOf(1) - place.xOf(0));
  const most = Math.max(0.01, ...marks.disagreement.map(({ score }) => score));
  context.fillStyle = style.getPropertyValue("--warn");
  for (const { frame, score } of marks.disagreement) {
    context.globalAlpha = 0.15 + 0.6 * (score / most);
    context.fillRect(place.xOf(frame) - width / 2, 9, width, 5);
  }
  context.globalAlpha = 1;
  for (const { frame } of marks.lookNext) {
    const x = place.xOf(frame);
    context.beginPath();
    context.moveTo(x - 5, 0);
    context.lineTo(x + 5, 0);
    context.lineTo(x, 8);
    context.fill();
  }
  if (place.gutter && (marks.lookNext.length || marks.disagreement.length)) {
    context.fillStyle = ink;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillText(place.app.words.lookNext(), 4, HEAD / 2);
  }
  context.fillStyle = style.getPropertyValue("--line");
  context.fillRect(place.xOf(0) - width / 2, HEAD - 1, place.xOf(session.frames - 1) - place.xOf(0) + width, 1);
}

function drawRow(context, place, { session, marks, object: active }, object, top, style) {
  const width = place.xOf(1) - place.xOf(0);
  const draw = Math.max(1, width + 0.3);
  context.fillStyle = style.getPropertyValue(object.id === active ? "--row-active" : "--row");
  context.fillRect(place.xOf(0) - width / 2, top + 3, session.frames * width, ROW - 6);
  for (const [frame, { presence, iou }] of marks.timeline.get(object.id) ?? []) {
    const left = place.xOf(frame) - width / 2;
    const there = presence === null || presence === undefined || presence >= PRESENT;
    context.fillStyle = there ? object.color : style.getPropertyValue("--ink-soft");
    context.globalAlpha = there ? 0.35 + 0.65 * (iou ?? 1) : 0.5;
    const height = there ? Math.max(3, (ROW - 6) * (iou ?? 1)) : 2;
    context.fillRect(left, top + ROW - 3 - height, draw, height);
  }
  context.globalAlpha = 1;
  for (const prompt of session.prompts) {
    if (prompt.object === object.id) drawDiamond(context, place.xOf(prompt.frame), top + ROW / 2, object.color, style);
  }
}

function drawDiamond(context, x, y, color, style) {
  context.save();
  context.translate(x, y);
  context.rotate(Math.PI / 4);
  context.fillStyle = color;
  context.strokeStyle = style.getPropertyValue("--ink");
  context.lineWidth = 1.5;
  context.fillRect(-4.5, -4.5, 9, 9);
  context.strokeRect(-4.5, -4.5, 9, 9);
  context.restore();
}

function shorten(context, words, room) {
  if (context.measureText(words).width <= room) return words;
  while (words.length > 1 && context.measureText(`${words}…`).width > room) words = words.slice(0, -1);
  return `${words}…`;
}
