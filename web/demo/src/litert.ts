// LiteRT.js: the .tflite files themselves, on WebAssembly (XNNPACK) or WebGPU. Files need a batch of one.

import { getWebGpuDevice, loadAndCompile, loadLiteRt, Tensor, type CompiledModel } from "@litertjs/core";

import type { Library, LoadedModel, Tensors } from "./model";
import { adapterName } from "./renderer";
import { countRows, cut, join } from "./rows";

declare const LITERT_FOLDER: string; // both from vite.config.mjs
declare const LITERT_VERSION: string;

type Accelerator = "wasm" | "webgpu";

export async function start(accelerator: Accelerator): Promise<Library> {
  if (accelerator === "wasm") withoutGraphics();
  // JSPI lets operators that WebGPU lacks run on the CPU, with the rest waiting; without it none would run on WebGPU.
  (self as { Module?: unknown }).Module = {
    printErr: console.debug, // it writes all its news there, and throws what is an error
    locateFile: (name: string) => `${LITERT_FOLDER}/${name}`, // it would look beside this worker
  };
  await loadLiteRt(LITERT_FOLDER, { jspi: accelerator === "webgpu" });
  if (accelerator === "webgpu" && !getWebGpuDevice()) throw new Error("this browser does not have WebGPU");
  const facts = {
    version: `LiteRT.js ${LITERT_VERSION}`,
    accelerator: accelerator === "wasm" ? "XNNPACK, SIMD" : await adapterName(),
    threads: 1,
  };
  return { facts, load: async (url) => new File(await loadAndCompile(url, { accelerator, gpuOptions: { precision: "fp32" } })) };
}

/** LiteRT.js asks for a graphics device where none is wanted too, and waits for it. */
function withoutGraphics(): void {
  const adapter = { limits: {}, features: new Set(), requestDevice: async () => null };
  Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => adapter } });
}

class File implements LoadedModel {
  private readonly inputs: string[];
  private readonly outputs: { name: string; shape: number[] }[];
  private readonly step: number;

  constructor(private readonly model: CompiledModel) {
    const inputs = model.getInputDetails();
    this.inputs = inputs.map(({ name }) => name);
    this.outputs = model.getOutputDetails().map(({ name, shape }) => ({ name, shape: [...shape] }));
    this.step = Math.max(1, inputs[0]?.shape[0] ?? 1);
  }

  async predict(inputs: Tensors): Promise<Tensors> {
    const rows = countRows(inputs, this.step);
    const answers: ArrayLike<number>[][] = this.outputs.map(() => []);
    for (let row = 0; row < rows; row += this.step) {
      const given = this.feeds(inputs, row);
      try {
        const tensors = await this.model.run(given);
        try {
          for (const [place, tensor] of tensors.entries()) answers[place]!.push(await tensor.data());
        } finally {
          for (const tensor of tensors) tensor.delete();
        }
      } finally {
        for (const tensor of given) tensor.delete();
      }
    }
    return Object.fromEntries(this.outputs.map(({ name, shape }, place) => [name, join(answers[place]!, shape, rows)]));
  }

  dispose(): void {
    this.model.delete();
  }

  private feeds(inputs: Tensors, row: number): Tensor[] {
    return this.inputs.map((name) => {
      const { values, shape } = cut(inputs, name, row, this.step);
      return new Tensor(values, shape);
    });
  }
}
