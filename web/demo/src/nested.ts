// Nested lists as JSON has them, and the flat arrays that a runtime wants.

import type { Nested, TensorSpec } from "./catalogue";
import type { Tensor } from "./model";

/** All numbers in order; null, which stands for NaN and infinity in JSON, becomes NaN. */
export function flatten(value: Nested): number[] {
  if (Array.isArray(value)) return value.flatMap(flatten);
  return [typeof value === "number" ? value : typeof value === "boolean" ? Number(value) : NaN];
}

export function shapeOf(value: Nested): number[] {
  return Array.isArray(value) ? [value.length, ...(value.length ? shapeOf(value[0]!) : [])] : [];
}

/** One row as a tensor with a batch of one. */
export function asTensor(value: Nested, spec: TensorSpec): Tensor {
  const numbers = flatten(value);
  const whole = /^u?int|^bool/.test(spec.dtype);
  return { shape: [1, ...shapeOf(value)], values: whole ? Int32Array.from(numbers) : Float32Array.from(numbers) };
}
