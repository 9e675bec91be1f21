// TF.js behind one small interface; the page and the benchmark share it. Each backend is loaded when it is chosen.

import { loadGraphModel, type GraphModel } from "@tensorflow/tfjs-converter";
import * as tf from "@tensorflow/tfjs-core";

export const BACKENDS = ["wasm", "webgl", "cpu"] as const;
export type Backend = (typeof BACKENDS)[number];

const DEADLINE_MS = 30_000; // a backend that never starts would hold the page for ever

/** One tensor's values, row by row, in the model's own units. */
export interface Tensor {
  shape: number[];
  values: Float32Array | Int32Array;
}
export type Tensors = Record<string, Tensor>;

export interface BackendFacts {
  version: string;
  backend: Backend;
  /** wasm: which build runs and on how many threads; webgl: the renderer. */
  accelerator: string;
  threads: number;
}

/** Make `name` the backend of this page. Throws when this browser does not have it. */
export async function useBackend(name: Backend): Promise<BackendFacts> {
  if (name === "wasm") await import("./backend_wasm");
  else if (name === "webgl") await import("@tensorflow/tfjs-backend-webgl");
  else await import("@tensorflow/tfjs-backend-cpu");
  const started = await withinDeadline(tf.setBackend(name), `the ${name} backend does not start here`);
  await tf.ready();
  if (!started || tf.getBackend() !== name) throw new Error(`the ${name} backend does not start here`);
  return { version: tf.version_core, backend: name, ...(await accelerator(name)) };
}

async function withinDeadline<T>(promise: Promise<T>, failure: string): Promise<T> {
  let timer = 0;
  const late = new Promise<never>((_, reject) => {
    timer = window.setTimeout(() => reject(new Error(`${failure}: nothing within ${DEADLINE_MS / 1000} s`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } catch (error) {
    throw sentence(error).startsWith(failure) ? error : new Error(`${failure}: ${sentence(error)}`);
  } finally {
    window.clearTimeout(timer);
  }
}

async function accelerator(name: Backend): Promise<{ accelerator: string; threads: number }> {
  if (name === "wasm") {
    const { wasmFacts } = await import("./backend_wasm");
    return wasmFacts();
  }
  if (name === "webgl") {
    const { rendererName } = await import("./renderer");
    return { accelerator: rendererName(), threads: 1 };
  }
  return { accelerator: "JavaScript", threads: 1 };
}

interface Port {
  name: string;
  node: string;
  dtype: tf.DataType;
}

/** A graph model whose inputs and outputs go by the names of its signature. */
export class Model {
  readonly inputs: Port[];
  readonly outputs: Port[];
  /** Rows of one execution: what the signature states, one where it leaves the batch free. */
  private readonly step: number;
  private needsAsync = false;

  private constructor(private readonly graph: GraphModel) {
    const signature = graph.modelSignature as unknown as Signature;
    this.inputs = ports(signature.inputs);
    this.outputs = ports(signature.outputs);
    const stated = Object.values(signature.inputs)[0]?.tensorShape?.dim?.[0]?.size;
    this.step = Math.max(1, Number(stated ?? 1));
  }

  static async load(url: string): Promise<Model> {
    return new Model(await loadGraphModel(url));
  }

  /** Answer every row: one execution each where the signature takes one row. */
  async predict(inputs: Tensors): Promise<Tensors> {
    const rows = this.rowCount(inputs);
    const answers: tf.TypedArray[][] = this.outputs.map(() => []);
    let shapes: number[][] = [];
    for (let row = 0; row < rows; row += this.step) {
      const tensors = await this.execute(this.feeds(inputs, row));
      shapes = tensors.map((tensor) => tensor.shape);
      for (const [place, tensor] of tensors.entries()) answers[place]!.push(await tensor.data());
      tf.dispose(tensors);
    }
    return Object.fromEntries(
      this.outputs.map((port, place) => [port.name, joinRows(answers[place]!, shapes[place]!, rows)]),
    );
  }

  /** Milliseconds of one request: tensors made from the rows, executed, and the answer read back. */
  async time(inputs: Tensors): Promise<number> {
    const rows = this.rowCount(inputs);
    const start = performance.now();
    for (let row = 0; row < rows; row += this.step) {
      const tensors = await this.execute(this.feeds(inputs, row));
      for (const tensor of tensors) await tensor.data();
      tf.dispose(tensors);
    }
    return performance.now() - start;
  }

  dispose(): void {
    this.graph.dispose();
  }

  private rowCount(inputs: Tensors): number {
    const rows = Object.values(inputs)[0]?.shape[0] ?? 0;
    if (rows % this.step) throw new Error(`this model takes ${this.step} rows at a time, not ${rows}`);
    return rows;
  }

  private feeds(inputs: Tensors, row: number): Record<string, tf.Tensor> {
    const feeds: Record<string, tf.Tensor> = {};
    for (const port of this.inputs) {
      const tensor = inputs[port.name];
      if (!tensor) throw new Error(`input '${port.name}' is missing`);
      const size = tensor.values.length / tensor.shape[0]!;
      const values = tensor.values.subarray(row * size, (row + this.step) * size);
      feeds[port.node] = tf.tensor(values, [this.step, ...tensor.shape.slice(1)], port.dtype);
    }
    return feeds;
  }

  private async execute(feeds: Record<string, tf.Tensor>): Promise<tf.Tensor[]> {
    const nodes = this.outputs.map((port) => port.node);
    try {
      if (!this.needsAsync) {
        try {
          return asList(tf.tidy(() => this.graph.execute(feeds, nodes)));
        } catch (error) {
          if (!String(error).includes("executeAsync")) throw error;
          this.needsAsync = true; // loops and conditions that depend on the data
        }
      }
      return asList(await this.graph.executeAsync(feeds, nodes));
    } finally {
      tf.dispose(feeds);
    }
  }
}

type Signature = { inputs: SignaturePorts; outputs: SignaturePorts };
type SignaturePorts = Record<string, { name: string; dtype: string; tensorShape?: { dim?: { size: string }[] } }>;

function ports(described: SignaturePorts): Port[] {
  return Object.entries(described).map(([name, info]) => ({ name, node: info.name, dtype: dtypeOf(info.dtype) }));
}

function dtypeOf(name: string): tf.DataType {
  if (name === "DT_BOOL") return "bool";
  return /^DT_U?INT\d+$/.test(name) ? "int32" : "float32";
}

function asList(result: tf.Tensor | tf.Tensor[]): tf.Tensor[] {
  return Array.isArray(result) ? result : [result];
}

/** One answer per execution → one tensor with the rows first. */
function joinRows(rows: tf.TypedArray[], shape: number[], count: number): Tensor {
  const size = rows[0]?.length ?? 0;
  const length = rows.length * size;
  const values = rows[0] instanceof Float32Array ? new Float32Array(length) : new Int32Array(length);
  rows.forEach((row, place) => values.set(row, place * size));
  return { shape: [count, ...shape.slice(1)], values };
}

export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
