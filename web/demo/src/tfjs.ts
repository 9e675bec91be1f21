// TF.js on one of its backends, which the worker that calls this has imported: graph models.

import * as tf from "@tensorflow/tfjs-core";

import { loadGraph } from "./graph";
import type { Library } from "./model";

/** `accelerator` is asked once the backend runs. */
export async function start(backend: string, accelerator: () => Promise<string>): Promise<Library> {
  const started = await tf.setBackend(backend);
  await tf.ready();
  if (!started || tf.getBackend() !== backend) throw new Error("this browser does not have it");
  const facts = { version: `TF.js ${tf.version_core}`, accelerator: await accelerator(), threads: 1 };
  return { facts, load: loadGraph };
}
