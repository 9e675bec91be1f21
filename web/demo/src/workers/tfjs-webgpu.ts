import "@tensorflow/tfjs-backend-webgpu";

import { serve } from "../engine";
import { adapterName } from "../renderer";
import { start } from "../tfjs";

serve(() => start("webgpu", adapterName));
