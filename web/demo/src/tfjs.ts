// TF.js on one of its backends, which the worker that calls this has imported: graph models.

import * as tf from "@tensorflow/tfjs-core";

import { loadGraph } from "./graph";
import type { Library } from "./model";

/** `accelerator` and `threads` are asked once the backend runs. */
export async function start(backend: string, accelerator: () => Promise<string>, threads = () => 1): Promise<Library> {
  const started = await tf.setBackend(backend);
  await tf.ready();
  if (!started || tf.getBackend() !== backend) throw new Error("this browser does not have it");
  const facts = { version: `TF.js ${tf.version_core}`, accelerator: await accelerator(), threads: threads() };
  return { facts, load: loadGraph };
}
