// The benchmark page: what compare/targets/page.py drives.

import { decodeAll, encodeAll, type Encoded } from "./base64";
import type { Facts } from "./model";
import { sentence, startRuntime, type Model, type Runtime, type RuntimeName } from "./runtime";

let runtime: Runtime | undefined;
let model: Model | undefined;

const bench = {
  async start(name: RuntimeName): Promise<Facts> {
    runtime?.stop();
    [runtime, model] = [undefined, undefined];
    runtime = await startRuntime(name);
    return runtime.facts;
  },

  async load(url: string): Promise<void> {
    if (!runtime) throw new Error("no runtime is started");
    model?.dispose();
    model = await runtime.load(url);
  },

  async predict(inputs: Record<string, Encoded>): Promise<Record<string, Encoded>> {
    return encodeAll((await loaded().predict(decodeAll(inputs))).outputs);
  },

  /** Milliseconds of each of `calls` requests, one after the other. */
  async time(inputs: Record<string, Encoded>, calls: number): Promise<number[]> {
    return loaded().time(decodeAll(inputs), calls);
  },

  /** Milliseconds of `calls` requests in turns, `rounds` times: of the page's way, and of the library's own loop. */
  async againstBare(url: string, inputs: Record<string, Encoded>, calls: number, rounds: number): Promise<[page: number[][], bare: number[][]]> {
    const { bareLoop } = await import("./bare");
    const tensors = decodeAll(inputs);
    const bare = await bareLoop(runtime!.name, url, tensors);
    await bare(calls); // warm-up, as the page's way had
    const [page, alone]: [number[][], number[][]] = [[], []];
    for (let round = 0; round < rounds; round++) {
      page.push(await loaded().time(tensors, calls));
      alone.push(await bare(calls));
    }
    return [page, alone];
  },

  /** Load and answer in one go; milliseconds since this page began to load. */
  async coldStart(name: RuntimeName, url: string, inputs: Record<string, Encoded>): Promise<number> {
    await bench.start(name);
    await bench.load(url);
    await bench.predict(inputs);
    return performance.now();
  },
};

export type Bench = typeof bench;
declare global {
  interface Window {
    bench: Bench;
  }
}
window.bench = bench;

function loaded(): Model {
  if (!model) throw new Error("no model is loaded");
  return model;
}

document.querySelector("output")!.textContent = crossOriginIsolated ? "ready, isolated" : "ready";
window.addEventListener("unhandledrejection", (event) => console.error(sentence(event.reason)));
