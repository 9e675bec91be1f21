import { serve } from "../engine";
import { start } from "../litert";

serve(() => start("wasm"));
