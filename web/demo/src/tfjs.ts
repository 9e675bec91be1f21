// TF.js: graph models on one of its backends, each of which is loaded when it is chosen.

import * as tf from "@tensorflow/tfjs-core";

import { loadGraph } from "./graph";
import type { Facts, Model } from "./runtime";

type Backend = "wasm" | "webgl" | "webgpu" | "cpu";

export async function start(name: Backend): Promise<{ facts: Facts; load(url: string): Promise<Model> }> {
  if (name === "wasm") await import("./backend_wasm");
  else if (name === "webgl") await import("@tensorflow/tfjs-backend-webgl");
  else if (name === "webgpu") await import("@tensorflow/tfjs-backend-webgpu");
  else await import("@tensorflow/tfjs-backend-cpu");
  const started = await tf.setBackend(name);
  await tf.ready();
  if (!started || tf.getBackend() !== name) throw new Error("this browser does not have it");
  const facts = { version: `TF.js ${tf.version_core}`, ...(await accelerator(name)) };
  return { facts, load: loadGraph };
}

async function accelerator(name: Backend): Promise<{ accelerator: string; threads: number }> {
  if (name === "wasm") {
    const { wasmFacts } = await import("./backend_wasm");
    return wasmFacts();
  }
  if (name === "cpu") return { accelerator: "JavaScript", threads: 1 };
  const { adapterName, rendererName } = await import("./renderer");
  return { accelerator: name === "webgl" ? rendererName() : await adapterName(), threads: 1 };
}
