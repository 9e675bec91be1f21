// Rows of a request: cut to what one execution takes, and its answers put together again.

import type { Tensor, Tensors } from "./model";

export function countRows(inputs: Tensors, step: number): number {
  const rows = Object.values(inputs)[0]?.shape[0] ?? 0;
  if (rows % step) throw new Error(`this model takes ${step} rows at a time, not ${rows}`);
  return rows;
}

/** The values of `step` rows of the input `name`. */
export function cut(inputs: Tensors, name: string, row: number, step: number): Tensor {
  const tensor = inputs[name];
  if (!tensor) throw new Error(`input '${name}' is missing`);
  const size = tensor.values.length / tensor.shape[0]!;
  return { shape: [step, ...tensor.shape.slice(1)], values: tensor.values.subarray(row * size, (row + step) * size) };
}

/** One answer per execution → one tensor with the rows first. */
export function join(parts: ArrayLike<number>[], shape: readonly number[], rows: number): Tensor {
  const [only] = parts;
  if (parts.length === 1 && (only instanceof Float32Array || only instanceof Int32Array)) {
    return { shape: [rows, ...shape.slice(1)], values: only };
  }
  const size = parts[0]?.length ?? 0;
  const length = parts.length * size;
  const values = parts[0] instanceof Float32Array ? new Float32Array(length) : new Int32Array(length);
  parts.forEach((part, place) => values.set(part, place * size));
  return { shape: [rows, ...shape.slice(1)], values };
}
