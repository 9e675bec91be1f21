// The last comparison, in the form of compare/summary.schema.json. What this browser measures has the same rows.

export type Verdict = "pass" | "fail" | "skipped" | "info";

export interface Output {
  name: string;
  dtype: string;
  max_abs: number | null;
  p99_abs: number | null;
  max_rel: number | null;
  /** Null where the decision is judged. */
  tolerance: number | null;
  would_pass_at: number | null;
  n: number;
  calls: number;
  batches: number[];
}

export interface Latency {
  batch: number;
  concurrency: number;
  cold_ms: number | null;
  first_ms: number | null;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  n: number;
  repeat: number;
}

export interface Row {
  model: string;
  version: number;
  target: string;
  variant: string;
  signature: string;
  precision: string;
  verdict: Verdict;
  reason: string;
  next: string;
  outputs: Output[];
  decision: { agreement: number | null; clear_agreement: number | null; n: number } | null;
  metric: { name: string; reference: number; value: number } | null;
  latency: Latency[];
  cpu_us: number | null;
  rss_bytes: number | null;
  artifact_bytes: number | null;
  artifact_sha256: string | null;
}

export interface Summary {
  run_id: string;
  created: string;
  host: { name: string; system: string; cpu: string; cores: number; memory_bytes: number };
  versions: Record<string, string>;
  rows: Row[];
  passed: number;
  failed: number;
  skipped: number;
  info: number;
}

export const SUMMARY = "/report/summary.json";
export const SIGNS: Record<Verdict, string> = { pass: "✓", fail: "✗", skipped: "–", info: "i" };
const HERE = " · here";
/** Of the metrics of compare/metrics.py, those that are errors. */
const LOWER_IS_BETTER = ["mae"];

export const targetHere = (runtime: string) => `${runtime}${HERE}`;
export const isHere = (row: Row) => row.target.endsWith(HERE);
export const isError = (metric: string) => LOWER_IS_BETTER.includes(metric);

/** "tfjs", "lite", "serving"; and "here" for all that this browser measured. */
export const kindsOf = (row: Row) => [row.target.split("-")[0]!, ...(isHere(row) ? ["here"] : [])];

/** What a row's metric is above Keras' on the same rows; null where there is none. */
export const gain = ({ metric }: Row) => (metric ? metric.value - metric.reference : null);

/** The largest of one figure over a row's outputs. */
export function worst(row: Row, figure: "would_pass_at" | "tolerance"): number | null {
  const values = row.outputs.map((output) => output[figure]).filter((value) => value !== null);
  return values.length ? Math.max(...values) : null;
}

export async function readSummary(): Promise<Summary> {
  const answer = await fetch(SUMMARY, { signal: AbortSignal.timeout(10_000) });
  if (!answer.ok) throw new Error(`${SUMMARY} answered ${answer.status}; run \`make demo\``);
  return (await answer.json()) as Summary;
}
