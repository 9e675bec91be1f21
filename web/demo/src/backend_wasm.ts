// The WebAssembly backend, from files that are part of this build.

import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import plain from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm?url";
import simd from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm?url";
import threaded from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-threaded-simd.wasm?url";
import { env } from "@tensorflow/tfjs-core";

// One thread: these models answer in well under a millisecond, which threads only make longer; and the workers of the
// threaded build load their code from blob addresses, which the page's policy forbids.
env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
setWasmPaths({
  "tfjs-backend-wasm.wasm": plain,
  "tfjs-backend-wasm-simd.wasm": simd,
  "tfjs-backend-wasm-threaded-simd.wasm": threaded,
});

export async function wasmFacts(): Promise<string> {
  return (await env().getAsync("WASM_HAS_SIMD_SUPPORT")) ? "SIMD, 1 thread" : "no SIMD, 1 thread";
}
