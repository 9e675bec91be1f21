import { wasmFacts } from "../backend_wasm";
import { serve } from "../engine";
import { start } from "../tfjs";

serve(() => start("wasm", wasmFacts));
