// The runtimes of this page behind one small interface. Each has a worker of its own, which is loaded when it is chosen:
// the page goes on drawing while a model answers, and a runtime that is given up leaves nothing behind.

import { wrap, type Remote } from "comlink";

import type { Engine } from "./engine";
import type { Facts, Prediction, Tensors } from "./model";

/** The names of the comparison's targets, the fastest on most machines first. */
export const RUNTIMES = ["litertjs-wasm", "tfjs-wasm", "tfjs-wasm-threads", "tfjs-webgpu", "litertjs-webgpu", "tfjs-webgl", "tfjs-cpu"] as const;
export type RuntimeName = (typeof RUNTIMES)[number];

const DEADLINE_MS = 30_000; // a runtime that never starts would hold the page for ever

// Vite finds a worker's file by this very form.
const WORKERS: Record<RuntimeName, () => Worker> = {
  "litertjs-wasm": () => new Worker(new URL("./workers/litertjs-wasm.ts", import.meta.url)),
  "litertjs-webgpu": () => new Worker(new URL("./workers/litertjs-webgpu.ts", import.meta.url)),
  "tfjs-wasm": () => new Worker(new URL("./workers/tfjs-wasm.ts", import.meta.url)),
  "tfjs-wasm-threads": () => new Worker(new URL("./workers/tfjs-wasm-threads.ts", import.meta.url)),
  "tfjs-webgpu": () => new Worker(new URL("./workers/tfjs-webgpu.ts", import.meta.url)),
  "tfjs-webgl": () => new Worker(new URL("./workers/tfjs-webgl.ts", import.meta.url)),
  "tfjs-cpu": () => new Worker(new URL("./workers/tfjs-cpu.ts", import.meta.url)),
};

/** Which of a model's files a runtime reads: "graph" for TF.js, "lite" for LiteRT. */
export type Format = "graph" | "lite";

/** A model that is loaded. */
export class Model {
  constructor(
    private readonly engine: Remote<Engine>,
    private readonly number: number,
    private readonly ended: Promise<never>,
  ) {}

  predict(inputs: Tensors): Promise<Prediction> {
    return Promise.race([this.engine.predict(this.number, inputs), this.ended]);
  }

  /** Milliseconds of each of `calls` predictions, one after the other. */
  time(inputs: Tensors, calls: number): Promise<number[]> {
    return Promise.race([this.engine.time(this.number, inputs, calls), this.ended]);
  }

  dispose(): void {
    void this.engine.dispose(this.number);
  }
}

export class Runtime {
  readonly format: Format;
  private end!: (reason: Error) => void;
  /** Rejects when the worker is stopped or breaks down, and with it whatever was asked of it: it would never answer. */
  private readonly ended = new Promise<never>((_, reject) => (this.end = reject));

  constructor(
    readonly name: RuntimeName,
    readonly facts: Facts,
    /** From the worker's creation to its being ready for a model. */
    readonly startMilliseconds: number,
    private readonly engine: Remote<Engine>,
    private readonly worker: Worker,
  ) {
    this.format = formatOf(name);
    this.ended.catch(() => undefined);
    failureOf(worker).catch(this.end);
  }

  async load(url: string): Promise<Model> {
    const number = this.engine.load(new URL(url, location.href).href);
    return new Model(this.engine, await Promise.race([number, this.ended]), this.ended);
  }

  /** The addresses of all that it consists of and has loaded. */
  fetched(): Promise<string[]> {
    return Promise.race([this.engine.fetched(), this.ended]);
  }

  /** End it, its models, and whatever it is doing. */
  stop(): void {
    this.worker.terminate();
    this.end(new Error(`${this.name} is stopped`));
  }
}

export const formatOf = (name: RuntimeName): Format => (name.startsWith("tfjs") ? "graph" : "lite");

/** Throws when this browser does not have `name`. */
export async function startRuntime(name: RuntimeName): Promise<Runtime> {
  const began = performance.now();
  const worker = WORKERS[name]();
  const engine = wrap<Engine>(worker);
  try {
    const facts = await withinDeadline(Promise.race([engine.start(), failureOf(worker)]));
    return new Runtime(name, facts, performance.now() - began, engine, worker);
  } catch (error) {
    worker.terminate();
    throw new Error(`${name} does not start here: ${sentence(error)}`);
  }
}

/** A worker whose script cannot be loaded would never answer. */
function failureOf(worker: Worker): Promise<never> {
  return new Promise((_, reject) => {
    worker.addEventListener("error", (event) => reject(new Error(event.message || "its files cannot be loaded")));
  });
}

async function withinDeadline<T>(promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${DEADLINE_MS / 1000} s`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
