// Whether a runtime gives the right numbers on this machine. Some give wrong ones and throw nothing.

import type { Sample, Spec } from "./catalogue";
import { compare, referenceOf } from "./decision";
import { difference } from "./numbers";
import { askBrowser } from "./places";
import type { Model } from "./runtime";

const ROUNDS = 2; // state that is kept, and warm-up, show only in the second answer

/** Ask for all samples; `wrong` says what is wrong, null if nothing is, and `first` the milliseconds of the first. */
export async function checkModel(
  model: Model,
  samples: Sample[],
  spec: Spec,
): Promise<{ wrong: string | null; first: number }> {
  let first: number | undefined;
  for (let round = 0; round < ROUNDS; round++) {
    for (const sample of samples) {
      const { outputs, milliseconds } = await askBrowser(model, sample, spec);
      first ??= milliseconds;
      const { agreement, largest } = compare(outputs, referenceOf(sample)!, spec);
      if (agreement !== "same") {
        const again = round ? ", when asked again" : "";
        return { wrong: `off by ${difference(largest)}${again}`, first };
      }
    }
  }
  return { wrong: null, first: first ?? NaN };
}
