// The threads load their code from blob: addresses, which this worker's own policy allows (web/headers.py) and the page's does not.

import { getThreadsCount } from "@tensorflow/tfjs-backend-wasm";

import { useThreads, wasmFacts } from "../backend_wasm";
import { serve } from "../engine";
import { start } from "../tfjs";

const MOST = 4; // threads; these models have nothing for more

serve(() => {
  useThreads(Math.min(MOST, navigator.hardwareConcurrency));
  return start("wasm", wasmFacts, getThreadsCount);
});
