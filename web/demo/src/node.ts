// TF.js on WebAssembly in Node.js: what compare/targets/node.py drives, in lines of JSON.
//
//   stdin   {"call": "load" | "predict" | "time", "arguments": […]}
//   stdout  {"value": …} or {"error": sentence}, one for each line; {"value": {"version", …}} once at the start

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";

import { decodeAll, encodeAll, type Encoded } from "./base64";
import { loadGraph } from "./graph";
import { timeCalls, type LoadedModel } from "./model";

let model: LoadedModel | undefined;

const calls = {
  async load(file: string): Promise<null> {
    model?.dispose();
    model = await loadGraph(fromDisk(file));
    return null;
  },

  async predict(inputs: Record<string, Encoded>): Promise<Record<string, Encoded>> {
    return encodeAll(await model!.predict(decodeAll(inputs)));
  },

  async time(inputs: Record<string, Encoded>, count: number): Promise<number[]> {
    return timeCalls(model!, decodeAll(inputs), count);
  },
};

function fromDisk(file: string): tf.io.IOHandler {
  const { modelTopology, weightsManifest, ...about } = JSON.parse(readFileSync(file, "utf8")) as tf.io.ModelJSON;
  const paths = weightsManifest.flatMap((group) => group.paths);
  const bytes = Buffer.concat(paths.map((path) => readFileSync(join(dirname(file), path))));
  return {
    load: async () => ({
      ...(about as tf.io.ModelArtifacts),
      modelTopology,
      weightSpecs: weightsManifest.flatMap((group) => group.weights),
      weightData: new Uint8Array(bytes).buffer,
    }),
  };
}

const reply = (message: unknown) => process.stdout.write(`${JSON.stringify(message)}\n`);

async function main(): Promise<void> {
  setWasmPaths(join(dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm")), "/"));
  await tf.setBackend("wasm");
  await tf.ready();
  if (tf.getBackend() !== "wasm") throw new Error("the wasm backend does not start");
  const simd = await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT");
  reply({ value: { version: `TF.js ${tf.version_core}, Node.js ${process.versions.node}`, accelerator: `wasm: ${simd ? "SIMD" : "no SIMD"}, 1 thread` } });
  for await (const line of createInterface({ input: process.stdin })) {
    const { call, arguments: given } = JSON.parse(line) as { call: keyof typeof calls; arguments: never[] };
    try {
      reply({ value: await (calls[call] as (...given: never[]) => Promise<unknown>)(...given) });
    } catch (error) {
      reply({ error: error instanceof Error ? error.message : String(error) });
    }
  }
}

void main();
