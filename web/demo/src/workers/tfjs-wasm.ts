import { useThreads, wasmFacts } from "../backend_wasm";
import { serve } from "../engine";
import { start } from "../tfjs";

useThreads(1);
serve(() => start("wasm", wasmFacts));
