// A library's own loop, on the page's main thread and with nothing of this page around it: what the page's times are held
// against. One row, one output.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { loadGraphModel } from "@tensorflow/tfjs-converter";
import * as tf from "@tensorflow/tfjs-core";

import type { Tensors } from "./model";
import { formatOf, type RuntimeName } from "./runtime";

declare const LITERT_FOLDER: string; // from vite.config.mjs

export type Bare = (calls: number) => Promise<number[]>;

/** A loop over `inputs`: milliseconds of each of its calls. */
export async function bareLoop(name: RuntimeName, url: string, inputs: Tensors): Promise<Bare> {
  const ask = formatOf(name) === "graph" ? await graph(name, url, inputs) : await lite(name, url, inputs);
  return async (calls) => {
    const milliseconds: number[] = [];
    for (let call = 0; call < calls; call++) {
      const start = performance.now();
      await ask();
      milliseconds.push(performance.now() - start);
    }
    return milliseconds;
  };
}

async function graph(name: RuntimeName, url: string, inputs: Tensors): Promise<() => Promise<unknown>> {
  const backend = name.split("-")[1]!;
  if (backend === "wasm") (await import("./backend_wasm")).useThreads(1);
  else if (backend === "webgl") await import("@tensorflow/tfjs-backend-webgl");
  else if (backend === "webgpu") await import("@tensorflow/tfjs-backend-webgpu");
  else await import("@tensorflow/tfjs-backend-cpu");
  await tf.setBackend(backend);
  const model = await loadGraphModel(url);
  const [{ values, shape }] = Object.values(inputs) as [Tensors[string]];
  return async () => {
    const x = tf.tensor(values, shape, model.inputs[0]!.dtype);
    const y = model.execute(x) as tf.Tensor;
    await y.data();
    tf.dispose([x, y]);
  };
}

async function lite(name: RuntimeName, url: string, inputs: Tensors): Promise<() => Promise<unknown>> {
  const accelerator = name.endsWith("webgpu") ? "webgpu" : "wasm";
  (self as { Module?: unknown }).Module = { printErr: console.debug };
  await loadLiteRt(LITERT_FOLDER, { jspi: accelerator === "webgpu" });
  const model = await loadAndCompile(url, { accelerator, gpuOptions: { precision: "fp32" } });
  const [{ values, shape }] = Object.values(inputs) as [Tensors[string]];
  return async () => {
    const x = new Tensor(values, shape);
    const [y] = await model.run([x]);
    await y!.data();
    x.delete();
    y!.delete();
  };
}
