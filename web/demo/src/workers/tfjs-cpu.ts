import "@tensorflow/tfjs-backend-cpu";

import { serve } from "../engine";
import { start } from "../tfjs";

serve(() => start("cpu", async () => "JavaScript"));
