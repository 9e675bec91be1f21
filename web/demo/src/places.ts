// The places that answer: this browser, the server and the device (both through the page's own server).

import type { BackEnd, Nested, Sample, Spec } from "./catalogue";
import type { Outputs } from "./decision";
import { asTensor, flatten } from "./nested";
import type { Model } from "./runtime";
import { serverPath, type Choice } from "./versions_path";

const PATIENCE_MS = 12_000; // longer than the proxy's own limit, whose sentence is the better one

export interface Answer {
  outputs: Outputs;
  milliseconds: number;
  /** Bytes of the request and of its answer that crossed the network. */
  moved: number;
}

export async function askBrowser(model: Model, sample: Sample, spec: Spec): Promise<Answer> {
  const inputs = Object.fromEntries(
    spec.inputs.map((input) => [input.name, asTensor(sample.inputs[input.name]!, input)]),
  );
  const { outputs, milliseconds } = await model.predict(inputs);
  const values = Object.entries(outputs).map(([name, tensor]) => [name, Array.from(tensor.values)]);
  return { outputs: Object.fromEntries(values) as Outputs, milliseconds, moved: 0 };
}

/** TF Serving's REST form, one instance. Throws with the sentence of whoever refused. */
export async function askBackEnd(place: BackEnd, model: string, choice: Choice, sample: Sample, spec: Spec): Promise<Answer> {
  const single = spec.inputs.length === 1;
  const instance = single ? sample.inputs[spec.inputs[0]!.name]! : sample.inputs;
  const question = JSON.stringify({ instances: [instance] });
  const start = performance.now();
  const answer = await fetch(`/api/${place}${serverPath(model, choice)}:predict`, {
    method: "POST",
    signal: AbortSignal.timeout(PATIENCE_MS),
    headers: { "Content-Type": "application/json" },
    body: question,
  });
  const text = await answer.text();
  const elapsed = performance.now() - start;
  const body = JSON.parse(text) as { predictions?: (Nested | Record<string, Nested>)[]; error?: string };
  if (!answer.ok || !body.predictions) throw new Error(body.error ?? `it answered ${answer.status}`);
  return { outputs: byName(body.predictions[0]!, spec), milliseconds: elapsed, moved: bytesOf(question) + bytesOf(text) };
}

const bytesOf = (text: string) => new TextEncoder().encode(text).length;

function byName(prediction: Nested | Record<string, Nested>, spec: Spec): Outputs {
  const named =
    spec.outputs.length === 1 && (Array.isArray(prediction) || typeof prediction !== "object")
      ? { [spec.outputs[0]!.name]: prediction as Nested }
      : (prediction as Record<string, Nested>);
  return Object.fromEntries(Object.entries(named).map(([name, value]) => [name, flatten(value)]));
}
