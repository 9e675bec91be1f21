// Whether a runtime gives the right numbers on this machine. Some give wrong ones and throw nothing.

import type { Sample, Spec } from "./catalogue";
import { compare, referenceOf } from "./decision";
import { difference } from "./numbers";
import { askBrowser } from "./places";
import type { Model } from "./runtime";

const ROUNDS = 2; // state that is kept, and warm-up, show only in the second answer
const TOO_SLOW_MS = 2000; // an answer; WebGPU in software takes 8 s for the LSTM, and all samples would take minutes

/**
 * Ask for all samples; `wrong` says what is wrong, null if nothing is, and `first` the milliseconds of the first.
 * Throws where the answers take so long that nobody would wait for them.
 */
export async function checkModel(
  model: Model,
  samples: Sample[],
  spec: Spec,
): Promise<{ wrong: string | null; first: number }> {
  let first = NaN;
  for (let round = 0; round < ROUNDS; round++) {
    for (const sample of samples) {
      const { outputs, milliseconds } = await askBrowser(model, sample, spec);
      if (Number.isNaN(first)) first = milliseconds; // it compiles what the graphics hardware runs
      else if (milliseconds > TOO_SLOW_MS) throw new Error(`one answer takes ${(milliseconds / 1e3).toFixed(1)} s here, too slow to be checked`);
      const { agreement, largest } = compare(outputs, referenceOf(sample)!, spec);
      if (agreement !== "same") {
        const again = round ? ", when asked again" : "";
        return { wrong: `off by ${difference(largest)}${again}`, first };
      }
    }
  }
  return { wrong: null, first };
}
