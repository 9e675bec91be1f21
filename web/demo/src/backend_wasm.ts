// The WebAssembly backend, from files that are part of this build.

import { getThreadsCount, setThreadsCount, setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import plain from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm?url";
import simd from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm?url";
import threaded from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-threaded-simd.wasm?url";
import { env } from "@tensorflow/tfjs-core";

setWasmPaths({
  "tfjs-backend-wasm.wasm": plain,
  "tfjs-backend-wasm-simd.wasm": simd,
  "tfjs-backend-wasm-threaded-simd.wasm": threaded,
});

/** One thread is faster for models that answer in a fraction of a millisecond; more want a page that is cross-origin isolated. */
export function useThreads(count: number): void {
  if (count > 1 && !crossOriginIsolated) throw new Error("threads want a page that is cross-origin isolated");
  env().set("WASM_HAS_MULTITHREAD_SUPPORT", count > 1);
  setThreadsCount(count);
}

export async function wasmFacts(): Promise<string> {
  const simd = (await env().getAsync("WASM_HAS_SIMD_SUPPORT")) ? "SIMD" : "no SIMD";
  const threads = (await env().getAsync("WASM_HAS_MULTITHREAD_SUPPORT")) ? getThreadsCount() : 1;
  return `${simd}, ${threads} thread${threads > 1 ? "s" : ""}`;
}
