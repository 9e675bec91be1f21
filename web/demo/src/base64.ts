// Tensors on their way to and from a program: base64 of their little-endian bytes, so that every float32 arrives bit
// for bit, NaN and infinity included.

import type { Tensor, Tensors } from "./model";

export interface Encoded {
  shape: number[];
  dtype: "float32" | "int32";
  data: string;
}

export function decodeAll(inputs: Record<string, Encoded>): Tensors {
  return Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, decode(tensor)]));
}

function decode({ shape, dtype, data }: Encoded): Tensor {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const values = dtype === "float32" ? new Float32Array(bytes.buffer) : new Int32Array(bytes.buffer);
  return { shape, values };
}

export function encodeAll(outputs: Tensors): Record<string, Encoded> {
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, encode(tensor)]));
}

function encode({ shape, values }: Tensor): Encoded {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let characters = "";
  const step = 0x8000; // arguments of one call
  for (let start = 0; start < bytes.length; start += step) {
    characters += String.fromCharCode(...bytes.subarray(start, start + step));
  }
  return { shape, dtype: values instanceof Float32Array ? "float32" : "int32", data: btoa(characters) };
}
