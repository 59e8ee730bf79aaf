/**
 * Masks as column-major runs, `{size: [h, w], counts: [background, foreground, …]}`, and as spans:
 * an Int32Array of (x, top, bottom) triples in column order, the form in which masks are drawn.
 */

export function spansOf({ size: [height], counts }) {
  const out = [];
  let position = 0;
  for (let index = 0; index < counts.length; index++) {
    const end = position + counts[index];
    if (index % 2) {
      while (position < end) {
        const x = Math.floor(position / height);
        const top = position - x * height;
        const bottom = Math.min(height, top + end - position);
        out.push(x, top, bottom);
        position += bottom - top;
      }
    }
    position = end;
  }
  return Int32Array.from(out);
}

/** Runs of a bitmap (row-major, 0 or not 0). */
export function runsOf(bitmap, width, height) {
  const counts = [];
  let value = 0;
  let run = 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0, at = x; y < height; y++, at += width) {
      if ((bitmap[at] !== 0) === (value !== 0)) run++;
      else {
        counts.push(run);
        value = 1 - value;
        run = 1;
      }
    }
  }
  counts.push(run);
  return { size: [height, width], counts };
}

export function bitmapOf(mask, width, height) {
  const bitmap = new Uint8Array(width * height);
  const spans = spansOf(mask);
  for (let at = 0; at < spans.length; at += 3) {
    for (let y = spans[at + 1]; y < spans[at + 2]; y++) bitmap[y * width + spans[at]] = 1;
  }
  return bitmap;
}

export function areaOf({ counts }) {
  let area = 0;
  for (let index = 1; index < counts.length; index += 2) area += counts[index];
  return area;
}

/** Is the pixel inside? Coordinates are of the picture, whole or not. */
export function holds({ size: [height, width], counts }, x, y) {
  x = Math.floor(x);
  y = Math.floor(y);
  if (x < 0 || y < 0 || x >= width || y >= height) return false;
  const wanted = x * height + y;
  let position = 0;
  for (let index = 0; index < counts.length; index++) {
    position += counts[index];
    if (position > wanted) return index % 2 === 1;
  }
  return false;
}
