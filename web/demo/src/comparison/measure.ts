// This machine's rows: every model on every runtime that starts here, in the form of the report's rows.
//
// All runtimes of one model are opened, each in a worker of its own; then they take turns, one at a time, so that what
// disturbs this machine for a moment disturbs none of them more than the others.

import { readSamples, type Entry, type Sample, type Samples, type Spec } from "../catalogue";
import { checkModel } from "../check";
import { referenceOf, SAME } from "../decision";
import { asTensor } from "../nested";
import { difference } from "../numbers";
import { askBrowser } from "../places";
import { formatOf, sentence, startRuntime, type Model, type Runtime, type RuntimeName } from "../runtime";
import { targetHere, type Output, type Row, type Verdict } from "./summary";
import { percentile } from "./units";

const ROUNDS = 5;
const CALLS = 200; // of a row, at most
const BUDGET_MS = 1000; // of a row's steady requests

export interface Watcher {
  /** What is measured now. */
  say(what: string): void;
  /** The rows of one model; measuring goes on when they are drawn. */
  show(rows: Row[]): Promise<void>;
  /** One model on one runtime has got as far as it will. */
  count(): void;
}

interface Cell {
  row: Row;
  runtime: Runtime;
  model: Model;
  /** Of one answer, as the check found it. */
  estimate: number;
  milliseconds: number[];
  rounds: number;
}

/** Until all is measured or `stopped`; what is known by then is shown. */
export async function measure(entries: Entry[], names: RuntimeName[], watcher: Watcher, stopped: AbortSignal): Promise<void> {
  const absent = new Map<RuntimeName, string>(); // what does not start for one model does for none
  const interrupted = new Promise<never>((_, reject) => stopped.addEventListener("abort", () => reject(stopped.reason)));
  interrupted.catch(() => undefined);
  for (const entry of entries) {
    const rows: Row[] = [];
    const running: Runtime[] = [];
    try {
      await Promise.race([measureModel(entry, names, { absent, rows, running }, watcher, stopped), interrupted]);
    } finally {
      for (const runtime of running) runtime.stop();
      await watcher.show(rows);
    }
  }
}

interface Found {
  absent: Map<RuntimeName, string>;
  rows: Row[];
  running: Runtime[];
}

async function measureModel(entry: Entry, names: RuntimeName[], { absent, rows, running }: Found, watcher: Watcher, stopped: AbortSignal): Promise<void> {
  const samples = await readSamples(entry);
  const cells: Cell[] = [];
  for (const name of names) {
    stopped.throwIfAborted();
    watcher.say(`${entry.model} on ${name}: cold, first, check`);
    const row = emptyRow(entry, name);
    try {
      const reason = absent.get(name) ?? entry.files[formatOf(name)].error;
      if (reason) throw new Error(reason);
      const runtime = await startRuntime(name).catch((error: unknown) => {
        absent.set(name, sentence(error));
        throw error;
      });
      running.push(runtime);
      if (stopped.aborted) return runtime.stop();
      const opened = await open(row, runtime, entry, samples);
      if (row.verdict === "pass") cells.push({ row, runtime, ...opened, milliseconds: [], rounds: 0 });
      else runtime.stop();
    } catch (error) {
      [row.verdict, row.reason] = ["skipped", sentence(error)];
    }
    rows.push(row);
    if (row.verdict !== "pass") watcher.count();
  }
  const inputs = tensorsOf(samples.samples[0]!, samples.spec);
  for (let round = 1; round <= ROUNDS; round++) {
    watcher.say(`${entry.model}: steady requests, round ${round} of ${ROUNDS}`);
    for (const cell of cells) {
      const calls = callsOf(cell);
      if (!calls) continue;
      try {
        cell.milliseconds.push(...(await cell.model.time(inputs, calls)));
        cell.rounds++;
      } catch (error) {
        [cell.row.verdict, cell.row.reason] = ["fail", sentence(error)];
        cell.runtime.stop();
      }
    }
  }
  for (const { row, milliseconds, rounds, runtime } of cells) {
    runtime.stop();
    watcher.count();
    if (!milliseconds.length) continue;
    const sorted = [...milliseconds].sort((one, other) => one - other);
    const [p50_ms, p95_ms, p99_ms] = [50, 95, 99].map((percent) => percentile(sorted, percent)) as [number, number, number];
    Object.assign(row.latency[0]!, { p50_ms, p95_ms, p99_ms, n: sorted.length, repeat: rounds });
  }
}

/** Cold, first, and whether the numbers are right; the row's verdict says so. */
async function open(row: Row, runtime: Runtime, entry: Entry, { samples, spec }: Samples): Promise<{ model: Model; estimate: number }> {
  const file = entry.files[runtime.format];
  const began = performance.now();
  const model = await runtime.load(file.url!);
  await askBrowser(model, samples[0]!, spec);
  const first_ms = performance.now() - began;
  const cold_ms = runtime.startMilliseconds + first_ms;
  row.latency = [{ batch: 1, concurrency: 1, cold_ms, first_ms, p50_ms: null, p95_ms: null, p99_ms: null, n: 0, repeat: 0 }];
  row.artifact_bytes = file.bytes;
  const checked = await checkModel(model, samples, spec);
  const { outputs, estimate } = await errorsOf(model, samples, spec);
  const off = outputs.find((output) => !(output.would_pass_at! <= SAME));
  const wrong = checked.wrong ?? (off ? `off by ${difference(off.would_pass_at!)}, when asked again` : null);
  row.outputs = outputs;
  const { version, accelerator } = runtime.facts;
  [row.verdict, row.reason] = wrong ? ["fail", `it answers wrongly here: ${wrong}`] : ["pass", `${version}, ${accelerator}`];
  row.next = wrong ? "Nothing: the page does not use this runtime for this model." : "";
  return { model, estimate };
}

function emptyRow({ model, version }: Entry, runtime: RuntimeName): Row {
  const verdict: Verdict = "skipped";
  const nothing = { decision: null, metric: null, cpu_us: null, rss_bytes: null, artifact_bytes: null, artifact_sha256: null };
  const form = { variant: "float32", signature: "serving_default", precision: "float32" };
  return { model, version, target: targetHere(runtime), ...form, verdict, reason: "", next: "", outputs: [], latency: [], ...nothing };
}

/** A round's part of the requests and of the time; one, however long that takes, and none once the time is spent. */
function callsOf({ milliseconds, estimate }: Cell): number {
  const spent = milliseconds.reduce((sum, value) => sum + value, 0);
  if (spent >= BUDGET_MS) return 0;
  const each = milliseconds.length ? spent / milliseconds.length : estimate;
  return Math.max(1, Math.min(CALLS / ROUNDS, Math.floor(BUDGET_MS / ROUNDS / each)));
}

function tensorsOf(sample: Sample, spec: Spec) {
  return Object.fromEntries(spec.inputs.map((input) => [input.name, asTensor(sample.inputs[input.name]!, input)]));
}

/** The largest errors of each output over all samples, as compare/verdict.py has them, and how long the last answer took. */
async function errorsOf(model: Model, samples: Sample[], spec: Spec): Promise<{ outputs: Output[]; estimate: number }> {
  const outputs = new Map<string, Output>();
  let estimate = 0;
  for (const sample of samples) {
    const { outputs: values, milliseconds } = await askBrowser(model, sample, spec);
    estimate = milliseconds;
    for (const [name, expected] of Object.entries(referenceOf(sample)!)) {
      const dtype = spec.outputs.find((output) => output.name === name)?.dtype ?? "";
      const output = outputs.get(name) ?? { name, dtype, max_abs: 0, p99_abs: null, max_rel: 0, tolerance: SAME, would_pass_at: 0, n: 0, calls: 0, batches: [1] };
      expected.forEach((reference, place) => {
        const absolute = Math.abs(values[name]![place]! - reference);
        const relative = absolute && absolute / Math.abs(reference);
        output.max_abs = Math.max(output.max_abs!, absolute);
        output.max_rel = Math.max(output.max_rel!, relative);
        output.would_pass_at = Math.max(output.would_pass_at!, Math.min(absolute, relative));
      });
      outputs.set(name, { ...output, n: output.n + 1, calls: output.calls + 1 });
    }
  }
  return { outputs: [...outputs.values()], estimate };
}
