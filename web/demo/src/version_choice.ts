// Which version of a model a panel asks: by its number, or by a label, which the server may move at any time.

import { LABELS, readLabels, type Entry, type Labels, type Version } from "./catalogue";
import { element } from "./elements";
import type { Choice } from "./versions_path";

export interface Chosen {
  /** Whose files and samples the page uses. */
  version: Version;
  /** How the server is asked. */
  choice: Choice;
}

export class VersionChoice {
  readonly element: HTMLSelectElement;
  private labels: Labels["labels"] = {};

  constructor(
    private readonly entry: Entry,
    changed: () => void,
  ) {
    this.element = element("select", { "aria-label": `version of ${entry.model}` });
    this.element.addEventListener("change", changed);
    this.element.addEventListener("focus", () => void this.refresh());
    this.list();
  }

  get chosen(): Chosen {
    const value = this.element.value;
    const label = LABELS.find((name) => name === value);
    const number = label ? this.labels[label]?.version : Number(value);
    const version = this.entry.versions.find((listed) => listed.version === number) ?? this.entry;
    return { version, choice: label ? { label } : { version: version.version } };
  }

  get byLabel(): boolean {
    return LABELS.some((name) => name === this.element.value);
  }

  choose(choice: Choice): void {
    this.element.value = "label" in choice ? choice.label : String(choice.version);
  }

  /** Ask the server where its labels point now; where it does not say, they stay as they were. */
  async refresh(): Promise<void> {
    const { labels, reason } = await readLabels(this.entry.model).catch(() => ({ labels: {}, reason: "no answer" }));
    if (reason === null) this.labels = labels;
    this.list();
  }

  private list(): void {
    const value = this.element.value;
    const numbers = this.entry.versions.map(({ version }) => version);
    const options = numbers.map((number) => element("option", { value: String(number) }, `version ${number}`));
    for (const label of LABELS) {
      const target = this.labels[label]?.version;
      if (target !== undefined && numbers.includes(target)) options.push(element("option", { value: label }, `${label}: version ${target}`));
    }
    this.element.replaceChildren(...options);
    if (options.some((option) => option.value === value)) this.element.value = value;
  }
}
