// Inputs of one's own, as the data asks for them: a digit is drawn, a name is typed, a year is scrubbed through, the
// features of a row are moved. Each begins at the sample that is shown.

import type { Nested, Sample, Samples, TensorSpec } from "./catalogue";
import { digitOf, type Point } from "./digit";
import { furthest, kindOf } from "./drawings";
import { element, svg } from "./elements";
import { flatten } from "./nested";
import { quantity } from "./numbers";

export interface Editor {
  readonly element: HTMLElement;
  /** Begin again at this sample. */
  reset(sample: Sample): void;
}

export type Changed = (inputs: Record<string, Nested>) => void;

/** Null where nothing fits this kind of input. */
export function editorFor({ spec, series, series_dates }: Samples, changed: Changed): Editor | null {
  const input = spec.inputs[0];
  if (!input || spec.inputs.length > 1) return null;
  const tell = (value: Nested) => changed({ [input.name]: value });
  switch (kindOf(spec)) {
    case "image":
      return input.shape.slice(1).join() === "8,8,1" ? drawDigit(tell) : null;
    case "text":
      return typeText(input, tell);
    case "line":
      return series ? scrub(input, series, series_dates, tell) : null;
    case "table":
      return input.shape.length === 2 ? moveFeatures(input, tell) : null;
  }
}

function drawDigit(tell: (value: Nested) => void): Editor {
  let strokes: Point[][] = [];
  let waiting = false;
  const pad = svg("svg", { viewBox: "0 0 100 100", class: "pad", role: "img", "aria-label": "draw a digit here" });
  const hint = svg("text", { x: 50, y: 54, class: "hint" }, "draw a digit");
  const clear = element("button", { type: "button" }, "Clear");
  const show = () => {
    pad.replaceChildren(
      ...strokes.map((stroke) => svg("polyline", { points: stroke.map((point) => point.join()).join(" "), class: "pen" })),
    );
    clear.disabled = false;
    if (waiting) return;
    waiting = true; // one answer for each picture on the screen, however fast the pen is
    requestAnimationFrame(() => {
      waiting = false;
      if (strokes.length) tell(grid(digitOf(strokes)));
    });
  };
  const at = (event: PointerEvent): Point => {
    const { left, top, width, height } = pad.getBoundingClientRect();
    return [(100 * (event.clientX - left)) / width, (100 * (event.clientY - top)) / height];
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    const [x, y] = at(event);
    strokes.push([[x, y], [x, y + 0.1]]);
    show();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!pad.hasPointerCapture(event.pointerId)) return;
    strokes.at(-1)!.push(at(event));
    show();
  });
  const reset = () => {
    strokes = [];
    pad.replaceChildren(hint);
    clear.disabled = true;
  };
  reset();
  clear.addEventListener("click", reset);
  return { element: element("div", { class: "editor" }, pad, clear), reset };
}

/** 64 values → [8][8][1]. */
function grid(values: number[]): Nested {
  return Array.from({ length: 8 }, (_, row) => values.slice(8 * row, 8 * row + 8).map((value) => [value]));
}

function typeText(input: TensorSpec, tell: (value: Nested) => void): Editor {
  const field = element("input", { type: "text", "aria-label": "a name to read", placeholder: "type a place name", autocomplete: "off", spellcheck: "false" });
  field.addEventListener("input", () => {
    if (field.value) tell(input.dtype === "string" ? field.value : tokens(field.value, input.shape[1] ?? 0));
  });
  return { element: element("div", { class: "editor" }, field), reset: () => (field.value = "") };
}

/** The text's bytes in UTF-8, cut to the length and padded with zeros. */
function tokens(text: string, length: number): number[] {
  const bytes = [...new TextEncoder().encode(text)].slice(0, length);
  return [...bytes, ...new Array<number>(length - bytes.length).fill(0)];
}

function scrub(input: TensorSpec, series: number[], dates: string[] | null, tell: (value: Nested) => void): Editor {
  const steps = input.shape[1] ?? 1;
  const last = series.length - steps;
  const label = `which ${steps} steps of ${series.length}`;
  const slider = element("input", { type: "range", min: "0", max: String(last), value: "0", "aria-label": label });
  const shown = element("output", {});
  const move = (start: number) => {
    const end = start + steps - 1;
    shown.textContent = dates ? `${dates[start]} to ${dates[end]}` : `steps ${start + 1} to ${end + 1}`;
    slider.setAttribute("aria-valuetext", shown.textContent);
  };
  slider.addEventListener("input", () => {
    const start = slider.valueAsNumber;
    move(start);
    tell(series.slice(start, start + steps).map((value) => [value]));
  });
  const reset = (sample: Sample) => {
    const values = flatten(sample.inputs[input.name] ?? []);
    const start = series.findIndex((_, place) => values.every((value, step) => series[place + step] === value));
    slider.value = String(Math.max(0, start));
    move(slider.valueAsNumber);
  };
  return { element: element("div", { class: "editor" }, slider, shown), reset };
}

const MOVED = 4; // features that have a slider; more would not be read

function moveFeatures(input: TensorSpec, tell: (value: Nested) => void): Editor {
  const rows = element("div", { class: "sliders" });
  const reset = (sample: Sample) => {
    const values = flatten(sample.inputs[input.name] ?? []);
    rows.replaceChildren(
      ...furthest(values, input)
        .slice(0, MOVED)
        .map((place) => {
          const name = input.columns?.[place] ?? `${input.name}[${place}]`;
          const [low, high] = reach(values[place]!, place, input);
          const shown = element("output", {}, quantity(values[place]!, ""));
          const slider = element("input", { type: "range", min: String(low), max: String(high), step: "any", value: String(values[place]), "aria-label": name });
          slider.addEventListener("input", () => {
            values[place] = slider.valueAsNumber;
            shown.textContent = quantity(slider.valueAsNumber, "");
            tell([...values]);
          });
          return element("label", {}, name, slider, shown);
        }),
    );
  };
  return { element: element("div", { class: "editor" }, rows), reset };
}

/** Four standard deviations to each side of the mean, zero at least, and the value itself. */
function reach(value: number, place: number, input: TensorSpec): [number, number] {
  const { ref, scale } = input.affine ?? { ref: "", scale: [] };
  if (!Array.isArray(ref)) return [Math.min(0, 2 * value), Math.max(1, 2 * value)];
  const [mean, deviation] = [ref[place]!, scale[place]!];
  return [Math.min(value, Math.max(0, mean - 4 * deviation)), Math.max(value, mean + 4 * deviation)];
}
