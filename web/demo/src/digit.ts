// From strokes of a pen to the 8 × 8 grey levels of the UCI digits.
//
// Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository: a
// bitmap of 32 × 32, filled by the digit, is divided into blocks of 4 × 4, and the black points of each are counted.

export type Point = [x: number, y: number];

const BITMAP = 32;
const BLOCK = 4;
const PEN = 3.4; // points of the bitmap; the digits of the data are written as thickly

/** Strokes in any unit → 64 counts from 0 to 16, row by row. Nothing drawn gives zeros. */
export function digitOf(strokes: Point[][]): number[] {
  const bitmap = rasterise(fitted(strokes));
  const counts = new Array<number>((BITMAP / BLOCK) ** 2).fill(0);
  bitmap.forEach((black, place) => {
    const [row, column] = [Math.floor(place / BITMAP), place % BITMAP];
    if (black) counts[Math.floor(row / BLOCK) * (BITMAP / BLOCK) + Math.floor(column / BLOCK)]! += 1;
  });
  return counts;
}

/** The strokes as high as the bitmap and in its middle, as wide as they then are, at most as wide as the bitmap. */
function fitted(strokes: Point[][]): Point[][] {
  const points = strokes.flat();
  if (!points.length) return [];
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  const [width, height] = [Math.max(...xs) - left, Math.max(...ys) - top];
  const scale = (BITMAP - PEN) / (Math.max(width, height) || 1);
  const [x0, y0] = [(BITMAP - width * scale) / 2, (BITMAP - height * scale) / 2];
  return strokes.map((stroke) => stroke.map(([x, y]): Point => [x0 + (x - left) * scale, y0 + (y - top) * scale]));
}

/** A point of the bitmap is black where its middle is within half a pen of a stroke. */
function rasterise(strokes: Point[][]): boolean[] {
  const bitmap = new Array<boolean>(BITMAP * BITMAP).fill(false);
  for (const stroke of strokes) stroke.forEach((point, place) => blacken(bitmap, stroke[Math.max(0, place - 1)]!, point));
  return bitmap;
}

function blacken(bitmap: boolean[], from: Point, to: Point): void {
  const [left, right] = reach(from[0], to[0]);
  const [top, bottom] = reach(from[1], to[1]);
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      if (distance([column + 0.5, row + 0.5], from, to) <= PEN / 2) bitmap[row * BITMAP + column] = true;
    }
  }
}

/** The first and the last row, or column, that a pen between the two can touch. */
function reach(from: number, to: number): [number, number] {
  return [Math.max(0, Math.floor(Math.min(from, to) - PEN / 2)), Math.min(BITMAP - 1, Math.floor(Math.max(from, to) + PEN / 2))];
}

function distance([x, y]: Point, [x1, y1]: Point, [x2, y2]: Point): number {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const along = dx || dy ? Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy))) : 0;
  return Math.hypot(x - x1 - along * dx, y - y1 - along * dy);
}
