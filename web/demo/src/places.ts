// The three places that answer: this browser, the server and the device (both through the page's own server).

import type { BackEnd, Entry, Nested, Sample, Spec } from "./catalogue";
import type { Outputs } from "./decision";
import { asTensor, flatten } from "./nested";
import type { Model } from "./runtime";
import { serverPath, type Choice } from "./versions_path";

const PATIENCE_MS = 12_000; // longer than the proxy's own limit, whose sentence is the better one

export interface Answer {
  outputs: Outputs;
  milliseconds: number;
  /** Of the very first request, where it came before this one: the check of a runtime. */
  first?: number;
}

export async function askBrowser(model: Model, sample: Sample, spec: Spec): Promise<Answer> {
  const inputs = Object.fromEntries(
    spec.inputs.map((input) => [input.name, asTensor(sample.inputs[input.name]!, input)]),
  );
  const start = performance.now();
  const outputs = await model.predict(inputs);
  const elapsed = performance.now() - start;
  return {
    outputs: Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, Array.from(tensor.values)])),
    milliseconds: elapsed,
  };
}

/** TF Serving's REST form, one instance. Throws with the sentence of whoever refused. */
export async function askBackEnd(
  place: BackEnd,
  entry: Entry,
  sample: Sample,
  spec: Spec,
  choice: Choice = { version: entry.version },
): Promise<Answer> {
  const single = spec.inputs.length === 1;
  const instance = single ? sample.inputs[spec.inputs[0]!.name]! : sample.inputs;
  const start = performance.now();
  const answer = await fetch(`/api/${place}${serverPath(entry.model, choice)}:predict`, {
    method: "POST",
    signal: AbortSignal.timeout(PATIENCE_MS),
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ instances: [instance] }),
  });
  const body = (await answer.json()) as { predictions?: (Nested | Record<string, Nested>)[]; error?: string };
  const elapsed = performance.now() - start;
  if (!answer.ok || !body.predictions) throw new Error(body.error ?? `it answered ${answer.status}`);
  return { outputs: byName(body.predictions[0]!, spec), milliseconds: elapsed };
}

function byName(prediction: Nested | Record<string, Nested>, spec: Spec): Outputs {
  const named =
    spec.outputs.length === 1 && (Array.isArray(prediction) || typeof prediction !== "object")
      ? { [spec.outputs[0]!.name]: prediction as Nested }
      : (prediction as Record<string, Nested>);
  return Object.fromEntries(Object.entries(named).map(([name, value]) => [name, flatten(value)]));
}
