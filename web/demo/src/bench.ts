// The benchmark page: what compare/targets/tfjs.py drives. Tensors travel as base64 of their little-endian bytes,
// so that every float32 arrives bit for bit, NaN and infinity included.

import { Model, sentence, useBackend, type Backend, type Tensor, type Tensors } from "./runtime";

interface Encoded {
  shape: number[];
  dtype: "float32" | "int32";
  data: string;
}

let model: Model | undefined;

const bench = {
  /** Start the backend; returns version, accelerator and threads. */
  start: (backend: Backend) => useBackend(backend),

  async load(url: string): Promise<void> {
    model?.dispose();
    model = await Model.load(url);
  },

  async predict(inputs: Record<string, Encoded>): Promise<Record<string, Encoded>> {
    return encodeAll(await loaded().predict(decodeAll(inputs)));
  },

  /** Milliseconds of each of `calls` requests, one after the other. */
  async time(inputs: Record<string, Encoded>, calls: number): Promise<number[]> {
    const tensors = decodeAll(inputs);
    const milliseconds: number[] = [];
    for (let call = 0; call < calls; call++) milliseconds.push(await loaded().time(tensors));
    return milliseconds;
  },

  /** Load and answer in one go; milliseconds since this page began to load. */
  async coldStart(backend: Backend, url: string, inputs: Record<string, Encoded>): Promise<number> {
    await useBackend(backend);
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

function decodeAll(inputs: Record<string, Encoded>): Tensors {
  return Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, decode(tensor)]));
}

function decode({ shape, dtype, data }: Encoded): Tensor {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const values = dtype === "float32" ? new Float32Array(bytes.buffer) : new Int32Array(bytes.buffer);
  return { shape, values };
}

function encodeAll(outputs: Tensors): Record<string, Encoded> {
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

document.querySelector("output")!.textContent = crossOriginIsolated ? "ready, isolated" : "ready";
window.addEventListener("unhandledrejection", (event) => console.error(sentence(event.reason)));
