/** Drawing of masks; the context's unit is a pixel of the picture. */

export function drawMask(context, shape, { color, opacity, outline }, scale, active) {
  if (shape.empty) return;
  const [left, top, right, bottom] = shape.box;
  if (opacity > 0) {
    const smooth = context.imageSmoothingEnabled;
    context.imageSmoothingEnabled = false;
    context.globalAlpha = opacity;
    context.drawImage(shape.tint(color), left, top, right - left, bottom - top);
    context.globalAlpha = 1;
    context.imageSmoothingEnabled = smooth;
  }
  if (outline) strokeOutline(context, shape, color, scale, active);
}

export function strokeOutline(context, shape, color, scale, halo) {
  context.lineCap = "square";
  if (halo) {
    context.lineWidth = 4 / scale;
    context.strokeStyle = "rgba(255, 255, 255, 0.75)";
    context.stroke(shape.outline());
  }
  context.lineWidth = (halo ? 2 : 1.5) / scale;
  context.strokeStyle = color;
  context.stroke(shape.outline());
}

const CANDIDATE_COLORS = ["#5b8def", "#e07b39", "#3fa773", "#c65fa8", "#b9a13a", "#4bb3c4", "#8a6fd1", "#d15c5c"];

export const candidateColor = (index) => CANDIDATE_COLORS[index % CANDIDATE_COLORS.length];

export function drawCandidates(context, app) {
  const { list } = app.state.candidates;
  const pointed = app.auto.pointed;
  for (let index = 0; index < list.length; index++) {
    const look = { color: candidateColor(index), opacity: index === pointed ? 0.7 : 0.4, outline: true };
    drawMask(context, app.masks.shape(list[index].mask), look, app.view.scale, index === pointed);
  }
}
