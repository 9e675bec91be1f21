// A sample as its data naturally looks: an image, a line, a text, or a short table. Chosen by the input's shape.

import type { Sample, Spec, TensorSpec } from "./catalogue";
import { readsText } from "./decision";
import { element, svg } from "./elements";
import { flatten } from "./nested";
import { quantity } from "./numbers";

export type Kind = "image" | "line" | "text" | "table";

const LONG_ENOUGH = 8; // steps; a shorter series reads better as a table
const TABLE_ROWS = 6;

export function kindOf(spec: Spec): Kind {
  const input = spec.inputs[0];
  if (!input) return "table";
  if (readsText(spec)) return "text";
  const shape = input.shape.slice(1);
  const channels = shape[2] ?? 1;
  if (shape.length === 3 && (channels === 1 || channels === 3)) return "image";
  if (shape.length === 2 && shape[1] === 1 && (shape[0] ?? LONG_ENOUGH) >= LONG_ENOUGH) return "line";
  return "table";
}

/** The large drawing. `prediction` is a value in the input's own unit, to be set at the end of a line. */
export function drawSample(sample: Sample, spec: Spec, prediction?: number): Element {
  const input = spec.inputs[0]!;
  const values = valuesOf(sample, input);
  switch (kindOf(spec)) {
    case "image":
      return drawImage(values, input, `${spec.task}: the image`);
    case "line":
      return drawLine(values, input, prediction);
    case "text":
      return element("p", { class: "text" }, textOf(sample, input));
    case "table":
      return drawTable(values, input);
  }
}

/** What stands on the button that chooses the sample. */
export function drawThumbnail(sample: Sample, spec: Spec, place: number): Element {
  const input = spec.inputs[0]!;
  switch (kindOf(spec)) {
    case "image":
      return drawImage(valuesOf(sample, input), input, `sample ${place + 1}`);
    case "line":
      return sparkline(valuesOf(sample, input), `sample ${place + 1}`);
    case "text":
      return element("span", {}, textOf(sample, input));
    case "table":
      return element("span", {}, String(place + 1));
  }
}

function valuesOf(sample: Sample, input: TensorSpec): number[] {
  return flatten(sample.inputs[input.name] ?? []);
}

function textOf(sample: Sample, input: TensorSpec): string {
  const value = sample.inputs[input.name];
  if (typeof value === "string") return value;
  return new TextDecoder().decode(Uint8Array.from(flatten(value ?? []).filter((byte) => byte > 0)));
}

function drawImage(values: number[], input: TensorSpec, name: string): HTMLCanvasElement {
  const [height = 1, width = 1, channels = 1] = input.shape.slice(1).map((size) => size ?? 1);
  const [low, high] = input.range ?? [Math.min(...values), Math.max(...values)];
  const canvas = element("canvas", { width: String(width), height: String(height), role: "img", "aria-label": name });
  canvas.className = channels === 1 ? "ink" : "";
  const context = canvas.getContext("2d", { willReadFrequently: true })!; // kept from the graphics hardware: it is tiny
  const image = context.createImageData(width, height);
  const level = (value: number) => Math.round((255 * (value - low)) / (high - low || 1));
  for (let pixel = 0; pixel < width * height; pixel++) {
    if (channels === 1) image.data[4 * pixel + 3] = level(values[pixel]!); // black ink, more or less of it
    else image.data.set([0, 1, 2].map((c) => level(values[3 * pixel + c]!)).concat(255), 4 * pixel);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

const WIDTH = 320;
const HEIGHT = 120;
const MARGIN = { left: 2, right: 12, top: 10, bottom: 10 };

function drawLine(values: number[], input: TensorSpec, prediction?: number): Element {
  const all = prediction === undefined ? values : [...values, prediction];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const x = (step: number) => MARGIN.left + (step / values.length) * (WIDTH - MARGIN.left - MARGIN.right);
  const y = (value: number) =>
    HEIGHT - MARGIN.bottom - ((value - low) / (high - low || 1)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const points = values.map((value, step) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const name = `${values.length} steps from ${quantity(values[0]!, input.unit)} to ${quantity(values.at(-1)!, input.unit)}`;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "line", role: "img", "aria-label": name });
  drawing.append(svg("polyline", { points, class: "series" }));
  if (prediction !== undefined) {
    drawing.append(svg("circle", { cx: x(values.length), cy: y(prediction), r: 4.5, class: "prediction" }));
  }
  const span = element("figcaption", {}, `${values.length} steps, ${quantity(low, "")} to ${quantity(high, input.unit)}`);
  return element("figure", {}, drawing, span);
}

function sparkline(values: number[], name: string): Element {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const points = values
    .map((value, step) => `${((step / (values.length - 1)) * 40).toFixed(1)},${(18 - ((value - low) / (high - low || 1)) * 16).toFixed(1)}`)
    .join(" ");
  return svg("svg", { viewBox: "0 0 40 20", class: "spark", role: "img", "aria-label": name }, svg("polyline", { points, class: "series" }));
}

/** With a known mean and scale, the features that stand out most; otherwise the first ones. */
function drawTable(values: number[], input: TensorSpec): Element {
  const deviation = deviations(values, input);
  const known = deviation !== null;
  const places = furthest(values, input).slice(0, TABLE_ROWS);
  const rows = places.map((place) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, input.columns?.[place] ?? `${input.name}[${place}]`),
      element("td", {}, quantity(values[place]!, "")),
      ...(deviation ? [element("td", {}, `${deviation[place]! < 0 ? "−" : "+"}${Math.abs(deviation[place]!).toFixed(1)} σ`)] : []),
    ),
  );
  const caption = known ? `the ${rows.length} of ${values.length} furthest from the mean` : `${rows.length} of ${values.length} values`;
  return element("table", { class: "features" }, element("caption", {}, caption), element("tbody", {}, ...rows));
}

/** The places of the values, those first that are furthest from their mean where mean and scale are known. */
export function furthest(values: number[], input: TensorSpec): number[] {
  const places = values.map((_, place) => place);
  const deviation = deviations(values, input);
  return deviation ? places.sort((a, b) => Math.abs(deviation[b]!) - Math.abs(deviation[a]!)) : places;
}

function deviations(values: number[], input: TensorSpec): number[] | null {
  const { ref, scale } = input.affine ?? { ref: "", scale: [] };
  if (!Array.isArray(ref) || ref.length !== values.length || scale.length !== values.length) return null;
  return values.map((value, place) => (value - ref[place]!) / scale[place]!);
}
