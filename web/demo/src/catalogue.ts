// What the server lists: models, their graph models, samples, and which back ends answer.

import type { Format } from "./runtime";

export interface TensorSpec {
  name: string;
  shape: (number | null)[];
  dtype: string;
  unit: string;
  range: [number, number] | null;
  affine: { ref: number[] | string; scale: number[] } | null;
  columns?: string[];
}

export interface Decision {
  kind: "threshold" | "argmax" | "value";
  output: string;
  labels: string[];
  threshold: number;
  unit: string;
}

export interface Spec {
  name: string;
  task: string;
  inputs: TensorSpec[];
  outputs: TensorSpec[];
  decision: Decision | null;
}

export type Nested = number | string | boolean | null | Nested[];

export interface Sample {
  inputs: Record<string, Nested>;
  /** What the reference answered; null for an input of one's own. */
  outputs: Record<string, Nested> | null;
  label: Nested;
}

/** A model's file in a format that a runtime of the page reads, or why there is none, in plain words. */
export type ModelFile = { url: string; bytes: number; error: null } | { url: null; bytes: null; error: string };

export interface Version {
  version: number;
  files: Record<Format, ModelFile>;
  samples: string;
}

/** A model. What it has of a version itself is the newest's. */
export interface Entry extends Version {
  model: string;
  /** All of them, the newest first. */
  versions: Version[];
}

export interface Place {
  up: boolean;
  reason: string | null;
  /** The files' variant, where a place says so: "int8". */
  variant: string | null;
  /** "127.0.0.1:8501"; null where the page's own server does not say. */
  address: string | null;
}

export type BackEnd = "serving" | "edge";

async function getJson<T>(url: string): Promise<T> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(10_000) });
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
  return (await answer.json()) as T;
}

export const listModels = () => getJson<{ models: Entry[]; report: boolean }>("/api/models");
export const readStatus = () => getJson<Record<BackEnd, Place>>("/api/status");
export interface Samples {
  spec: Spec;
  kind: string | null;
  samples: Sample[];
  /** Of a model that reads a series: the stretch that its rows were cut from, one step apart. */
  series: number[] | null;
  /** The day of each value of the series, "1994-01-01", where they are known. */
  series_dates: string[] | null;
}

export const readSamples = (version: Version) => getJson<Samples>(version.samples);

/** Where the server's labels point, null where it has no such label; none of them where `reason` says why. */
export interface Labels {
  labels: Partial<Record<Label, { version: number; state: string } | null>>;
  reason: string | null;
}
export const LABELS = ["stable", "canary"] as const;
export type Label = (typeof LABELS)[number];

export const readLabels = (model: string) => getJson<Labels>(`/api/labels/${encodeURIComponent(model)}`);
