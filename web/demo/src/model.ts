// What a loaded model is, whatever the library: shared by the workers of the page, its benchmark and Node.js.

/** One tensor's values, row by row, in the model's own units. */
export interface Tensor {
  shape: number[];
  values: Float32Array | Int32Array;
}
export type Tensors = Record<string, Tensor>;

/** Inputs and outputs go by the names of the model's signature. */
export interface LoadedModel {
  /** Answer every row: one execution each where the file takes one row. */
  predict(inputs: Tensors): Promise<Tensors>;
  dispose(): void;
}

export interface Prediction {
  outputs: Tensors;
  /** From the rows to the answer read back: tensors made, executed, values copied. */
  milliseconds: number;
}

export interface Facts {
  /** "TF.js 4.22.0". */
  version: string;
  /** wasm: which build runs; webgl, webgpu: the graphics hardware, or the software in its place. */
  accelerator: string;
  threads: number;
}

/** A library on one of its backends, ready to load models. */
export interface Library {
  facts: Facts;
  load(url: string): Promise<LoadedModel>;
}

export async function predictTimed(model: LoadedModel, inputs: Tensors): Promise<Prediction> {
  const start = performance.now();
  const outputs = await model.predict(inputs);
  return { outputs, milliseconds: performance.now() - start };
}

/** Milliseconds of each of `calls` predictions, one after the other. */
export async function timeCalls(model: LoadedModel, inputs: Tensors, calls: number): Promise<number[]> {
  const milliseconds: number[] = [];
  for (let call = 0; call < calls; call++) milliseconds.push((await predictTimed(model, inputs)).milliseconds);
  return milliseconds;
}
