// Whose figures these are, and what they say about another machine.

import { element } from "../elements";
import { SIGNS, type Summary, type Verdict } from "./summary";

export function describe({ run_id, created, host, versions, passed, failed, skipped, info }: Summary): HTMLElement[] {
  const verdicts = element("p", { class: "verdicts" });
  const counts: [Verdict, string, number][] = [["pass", "passed", passed], ["fail", "failed", failed], ["skipped", "skipped", skipped], ["info", "for information", info]];
  for (const [verdict, words, count] of counts) {
    if (count || verdict === "pass" || verdict === "fail") verdicts.append(element("span", count ? { "data-verdict": verdict } : {}, `${SIGNS[verdict]} ${count} ${words}`));
  }
  const machine = `${host.name}: ${host.cpu}, ${host.cores} cores, ${(host.memory_bytes / 1e9).toFixed(1)} GB, ${host.system}`;
  const when = new Date(created).toISOString().slice(0, 16).replace("T", " ");
  return [
    verdicts,
    element("p", {}, `Measured on ${machine}; ${when} UTC, run ${run_id}.`),
    element(
      "p",
      {},
      "Times are that machine’s and say little about another; errors, verdicts and sizes are the model’s and hold wherever these versions run. ",
      "Rows named “· here” come from the machine on which you read this: hold their times against each other.",
    ),
    versionList(versions),
  ];
}

export function describeNothing(): HTMLElement[] {
  return [element("p", { class: "notice" }, "There is no report yet: run `make demo`, then load this page again. This browser can be measured without one.")];
}

function versionList(versions: Record<string, string>): HTMLElement {
  const list = element("dl");
  for (const [name, version] of Object.entries(versions)) list.append(element("dt", {}, name), element("dd", {}, version));
  return element("details", {}, element("summary", {}, "Versions of everything that was measured"), list);
}
