import "@tensorflow/tfjs-backend-webgl";

import { serve } from "../engine";
import { rendererName } from "../renderer";
import { start } from "../tfjs";

serve(() => start("webgl", rendererName));
