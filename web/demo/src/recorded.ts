// What the versions of a model recorded for the same inputs: by it an answer tells which of them gave it.

import { readSamples, type Entry, type Sample, type Spec } from "./catalogue";
import { compare, referenceOf, type Outputs } from "./decision";

export interface Question {
  sample: Sample;
  /** The recorded answer of every version. */
  recorded: Map<number, Outputs>;
}

export interface Recorded {
  spec: Spec;
  questions: Question[];
}

/** Throws where the versions have nothing in common. Questions that all answer differently are preferred. */
export async function readRecorded(entry: Entry): Promise<Recorded> {
  const read = await Promise.all(
    entry.versions.map(async (version) => ({ version: version.version, ...(await readSamples(version)) })),
  );
  const byInputs = read.map(({ version, samples }) => ({
    version,
    samples: new Map(samples.map((sample) => [JSON.stringify(sample.inputs), sample])),
  }));
  const { spec, samples } = read[0]!;
  const questions = samples.flatMap((sample) => {
    const recorded = new Map<number, Outputs>();
    for (const { version, samples } of byInputs) {
      const outputs = samples.get(JSON.stringify(sample.inputs));
      if (outputs) recorded.set(version, referenceOf(outputs)!);
    }
    return recorded.size === read.length ? [{ sample, recorded }] : [];
  });
  if (!questions.length) throw new Error(`the versions of ${entry.model} have no sample in common; run \`make deploy-all\``);
  const telling = questions.filter((question) =>
    [...question.recorded.values()].every((outputs) => versionsOf(outputs, question, spec).length === 1),
  );
  return { spec, questions: telling.length ? telling : questions };
}

/** The versions that recorded these numbers: one, or none where the answer is wrong, or several that answer alike. */
export function versionsOf(outputs: Outputs, { recorded }: Question, spec: Spec): number[] {
  return [...recorded].filter(([, own]) => compare(outputs, own, spec).agreement === "same").map(([version]) => version);
}
