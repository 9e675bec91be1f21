// Size against accuracy: a drawing for each model, whose metrics differ. Up is better in all of them.
//
// A slow target answers fewer of the test rows than a quick one, so that its metric is of those; what can be held against
// each other is what a target changes on its own rows.

import * as Plot from "@observablehq/plot";

import { bytes } from "../numbers";
import { draw, extent, FONT, LETTER, ticks } from "./drawing";
import { gain, isError, SIGNS, type Row } from "./summary";

const WIDTH = 420; // px, the least
const HEIGHT = 290; // px; labels need more of it where there is less width
const GAP = 24; // px, as between the drawings in comparison.css
const MARGIN = { marginLeft: 58, marginRight: 14, marginTop: 34, marginBottom: 30 };
const LINE = 14; // px from label to label

interface Point {
  size: number;
  gain: number;
  /** The targets that stand in this place. */
  label: string;
}

export function drawSizes(rows: Row[], width: number): Element[] {
  const known = rows.filter((row) => row.artifact_bytes && row.metric);
  const models = [...new Set(known.map(({ model }) => model))];
  const most = Math.max(1, Math.floor((width + GAP) / (WIDTH + GAP)));
  const columns = Math.ceil(models.length / Math.ceil(models.length / most)); // lines of the same length
  return models.map((model) => drawModel(known.filter((row) => row.model === model), Math.floor((width + GAP) / columns - GAP)));
}

function drawModel(rows: Row[], width: number): Element {
  const { model, metric } = rows[0]!;
  const points = gather(rows);
  const sizes = points.map(({ size }) => size);
  const height = width < WIDTH ? HEIGHT + 110 : HEIGHT;
  const x = { type: "log", domain: [extent(sizes)[0] * 0.8, extent(sizes)[1] * 1.25], range: [MARGIN.marginLeft, width - MARGIN.marginRight] } as const;
  const y = { type: "linear", domain: domainOf(points, metric!.name), range: [height - MARGIN.marginBottom, MARGIN.marginTop] } as const;
  const labels = place(points, Plot.scale({ x })!, Plot.scale({ y })!, { width, height });
  const better = isError(metric!.name) ? "lower is better, so the axis is turned over" : "higher is better";
  return draw(`size against ${metric!.name} of ${model}, as a change against Keras; ${better}`, {
    ...MARGIN,
    width,
    height,
    x,
    y,
    marks: [
      Plot.gridX(ticks(sizes, 4), { stroke: "var(--rule)", strokeOpacity: 1 }),
      Plot.axisX(ticks(sizes, 4), { tickFormat: bytes, tickSize: 0, label: null, fontSize: FONT, fill: "var(--faint)" }),
      Plot.axisY({ ticks: 4, tickSize: 0, tickFormat: signed, label: null, fontSize: FONT, fill: "var(--faint)" }),
      Plot.ruleY([0], { stroke: "var(--ink)", strokeDasharray: "4 3", strokeOpacity: 0.6 }),
      Plot.link(labels, { x1: "size", y1: "gain", x2: "size", y2: "y", stroke: "var(--faint)", strokeOpacity: 0.6 }),
      Plot.dot(points, { x: "size", y: "gain", r: 4.2, fill: "var(--accent)", title: "label" }),
      Plot.text(labels, { x: "x", y: "y", text: "label", textAnchor: "start", fontSize: FONT, stroke: "var(--sheet)", strokeWidth: 4, fill: "var(--ink)" }),
      Plot.text([`${model}: ${metric!.name} against Keras, ↑ better`], { frameAnchor: "top-left", dx: -MARGIN.marginLeft, dy: -26, textAnchor: "start", fontSize: FONT + 1, fontWeight: 600 }),
    ],
  });
}

/** No change stands well within it, so that labels have room on both sides. */
function domainOf(points: Point[], metric: string): [number, number] {
  const [low, high] = extent([0, ...points.map(({ gain }) => gain)]);
  const room = (high - low || 0.01) * 0.4;
  return isError(metric) ? [high + room, low - room] : [low - room, high + room];
}

const signed = (value: number) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Number(Math.abs(value).toPrecision(3))}`;

/** What differs by less than half a percent in size, or by less than 1e-4, is in one place. */
function gather(rows: Row[]): Point[] {
  const found = new Map<string, { size: number; gain: number; targets: Set<string> }>();
  for (const row of rows) {
    const change = gain(row)!;
    const key = `${Math.round(200 * Math.log10(row.artifact_bytes!))} ${change.toFixed(4)}`;
    const point = found.get(key) ?? { size: row.artifact_bytes!, gain: change, targets: new Set() };
    point.targets.add(row.verdict === "pass" ? row.target : `${SIGNS[row.verdict]} ${row.target}`);
    found.set(key, point);
  }
  return [...found.values()].map(({ targets, ...point }) => ({ ...point, label: shorten([...targets]) }));
}

/** "tfjs-cpu", "tfjs-wasm" → "tfjs-cpu|wasm"; of what is more, the number. */
function shorten(targets: string[]): string {
  const families = new Map<string, string[]>();
  for (const target of targets) {
    const [family, ...rest] = target.split("-");
    families.set(family!, [...(families.get(family!) ?? []), rest.join("-")]);
  }
  const names = [...families].map(([family, rest]) => (rest.length > 2 ? `${family} ×${rest.length}` : rest[0] ? `${family}-${rest.join("|")}` : family));
  return names.slice(0, 2).join(", ") + (names.length > 2 ? ` +${names.length - 2}` : "");
}

/** A place for each label that covers nothing: beside its point, else ever further below or above; none if all is full. */
function place(points: Point[], across: Plot.Scale, up: Plot.Scale, { width, height }: { width: number; height: number }): (Point & { x: number; y: number })[] {
  const taken = points.map(({ size, gain }) => {
    const [x, y] = [across.apply(size) as number, up.apply(gain) as number];
    return { left: x - 5, right: x + 5, y };
  });
  const isFree = (left: number, right: number, y: number) =>
    left > MARGIN.marginLeft && right < width && y > MARGIN.marginTop && y < height - MARGIN.marginBottom - 4 &&
    taken.every((other) => Math.abs(other.y - y) >= LINE - 1 || left > other.right || right < other.left);
  return points.flatMap((point) => {
    const [px, py] = [across.apply(point.size) as number, up.apply(point.gain) as number];
    const length = LETTER * point.label.length;
    const steps = Array.from({ length: Math.floor(height / LINE) }, (_, step) => [LINE * (step + 1), -LINE * (step + 1)]).flat();
    const inside = Math.min(width - length - 2, Math.max(MARGIN.marginLeft + 2, px - length / 2));
    const lefts = [px - 4, px + 4 - length, inside];
    const candidates = [[px + 8, py], [px - 8 - length, py], ...steps.flatMap((step) => lefts.map((left) => [left, py + step]))] as [number, number][];
    const found = candidates.find(([left, y]) => isFree(left, left + length, y));
    if (!found) return [];
    const [left, y] = found;
    taken.push({ left, right: left + length, y });
    return { ...point, x: across.invert!(left) as number, y: up.invert!(y) as number };
  });
}
