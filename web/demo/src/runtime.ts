// The runtimes of this page behind one small interface. Each is loaded when it is chosen, and no other.

/** The names of the comparison's targets, the fastest on most machines first. */
export const RUNTIMES = ["litertjs-wasm", "tfjs-wasm", "tfjs-webgpu", "litertjs-webgpu", "tfjs-webgl", "tfjs-cpu"] as const;
export type RuntimeName = (typeof RUNTIMES)[number];

const DEADLINE_MS = 30_000; // a runtime that never starts would hold the page for ever

/** One tensor's values, row by row, in the model's own units. */
export interface Tensor {
  shape: number[];
  values: Float32Array | Int32Array;
}
export type Tensors = Record<string, Tensor>;

export interface Facts {
  /** "TF.js 4.22.0". */
  version: string;
  /** wasm: which build runs; webgl, webgpu: the graphics hardware, or the software in its place. */
  accelerator: string;
  threads: number;
}

/** A model that is loaded. Inputs and outputs go by the names of its signature. */
export interface Model {
  /** Answer every row: one execution each where the file takes one row. */
  predict(inputs: Tensors): Promise<Tensors>;
  dispose(): void;
}

export interface Runtime {
  readonly name: RuntimeName;
  /** What of a model this runtime reads: "graph" for TF.js, "lite" for LiteRT. */
  readonly format: Format;
  readonly facts: Facts;
  load(url: string): Promise<Model>;
}
export type Format = "graph" | "lite";

export const formatOf = (name: RuntimeName): Format => (name.startsWith("tfjs") ? "graph" : "lite");

/** Make `name` the runtime of this page. Throws when this browser does not have it. */
export async function startRuntime(name: RuntimeName): Promise<Runtime> {
  const backend = name.split("-")[1]!;
  const start =
    formatOf(name) === "graph"
      ? import("./tfjs").then(({ start }) => start(backend as "wasm" | "webgl" | "webgpu" | "cpu"))
      : import("./litert").then(({ start }) => start(backend as "wasm" | "webgpu"));
  const { facts, load } = await withinDeadline(start, `${name} does not start here`);
  return { name, format: formatOf(name), facts, load };
}

/** Milliseconds of one request: tensors made from the rows, executed, and the answer read back. */
export async function timeOne(model: Model, inputs: Tensors): Promise<number> {
  const start = performance.now();
  await model.predict(inputs);
  return performance.now() - start;
}

async function withinDeadline<T>(promise: Promise<T>, failure: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${DEADLINE_MS / 1000} s`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } catch (error) {
    throw new Error(`${failure}: ${sentence(error)}`);
  } finally {
    clearTimeout(timer);
  }
}

export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
