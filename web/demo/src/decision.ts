// From numbers to a decision, and whether two answers agree.

import type { Nested, Sample, Spec } from "./catalogue";
import { flatten } from "./nested";
import { quantity } from "./numbers";

export type Outputs = Record<string, number[]>;

export interface Reading {
  /** What the model says: "7", "benign", "427.31". */
  answer: string;
  unit: string;
  /** How sure it is, where the decision has a probability. */
  score: string;
}

export type Agreement = "same" | "close" | "other";

export const SAME = 1e-5; // relative or absolute: the bound of the comparison for float32 targets
const CLOSE_VALUE = 0.005; // of the reference: a regression has no decision that could be compared

const languages = new Intl.DisplayNames(["en"], { type: "language", fallback: "none" });

export function read(outputs: Outputs, spec: Spec): Reading {
  const decision = spec.decision;
  if (!decision) {
    const [name, values] = Object.entries(outputs)[0] ?? ["", []];
    const shown = values.slice(0, 3).map((value) => quantity(value, ""));
    return { answer: `${shown.join(", ")}${values.length > 3 ? ", …" : ""}`, unit: "", score: name };
  }
  const values = outputs[decision.output] ?? [];
  if (decision.kind === "value") return { answer: quantity(values[0] ?? NaN, ""), unit: decision.unit, score: "" };
  const place = chosen(values, spec);
  const probability = decision.kind === "argmax" ? values[place]! : place ? values[0]! : 1 - values[0]!;
  return { answer: labelName(place, spec), unit: "", score: probability.toFixed(4) };
}

/** The sample's truth, "labelled 7" or "measured 357.30 ppm"; empty when nobody labelled it. */
export function readLabel(label: Nested, spec: Spec): string {
  const value = flatten(label)[0];
  if (label === null || value === undefined || !spec.decision) return "";
  if (spec.decision.kind === "value") return `measured ${quantity(value, spec.decision.unit)}`;
  return `labelled ${labelName(value, spec)}`;
}

export function compare(outputs: Outputs, reference: Outputs, spec: Spec): { agreement: Agreement; largest: number } {
  let largest = 0;
  let same = true;
  for (const [name, expected] of Object.entries(reference)) {
    const values = outputs[name] ?? [];
    if (values.length !== expected.length) return { agreement: "other", largest: NaN };
    expected.forEach((value, place) => {
      const error = Math.abs(values[place]! - value);
      if (Number.isNaN(error) && Number.isNaN(value) && Number.isNaN(values[place]!)) return;
      largest = Math.max(largest, error);
      if (!(error <= SAME * Math.max(1, Math.abs(value)))) same = false;
    });
  }
  if (same) return { agreement: "same", largest };
  const decision = spec.decision;
  if (!decision) return { agreement: "other", largest };
  const [values, expected] = [outputs[decision.output] ?? [], reference[decision.output] ?? []];
  const close =
    decision.kind === "value"
      ? Math.abs(values[0]! - expected[0]!) <= CLOSE_VALUE * Math.abs(expected[0]!)
      : chosen(values, spec) === chosen(expected, spec);
  return { agreement: close ? "close" : "other", largest };
}

/** What the reference answered to a sample; null where nobody asked it. */
export function referenceOf(sample: Sample): Outputs | null {
  if (!sample.outputs) return null;
  return Object.fromEntries(Object.entries(sample.outputs).map(([name, value]) => [name, flatten(value)]));
}

function chosen(values: number[], spec: Spec): number {
  if (spec.decision?.kind === "threshold") return Number(values[0]! >= spec.decision.threshold);
  return values.indexOf(Math.max(...values));
}

function labelName(place: number, spec: Spec): string {
  const label = spec.decision?.labels[place] ?? String(place);
  // Two letters that name a language are one when the model reads text.
  const language = readsText(spec) && /^[a-z]{2}$/.test(label) ? languages.of(label) : undefined;
  return language ?? label;
}

/** Whether the first input holds bytes of UTF-8, or a string. */
export function readsText(spec: Spec): boolean {
  const input = spec.inputs[0];
  return input?.dtype === "string" || /utf-8/i.test(input?.unit ?? "");
}
