// One panel per model: a sample or an input of one's own, and what each place answers to it.

import { AnswerTable } from "./answers";
import { readSamples, type BackEnd, type Entry, type Nested, type Place, type Sample, type Spec, type Version } from "./catalogue";
import { checkModel } from "./check";
import { read, readLabel, type Outputs } from "./decision";
import { drawSample, drawThumbnail, kindOf } from "./drawings";
import { editorFor, type Editor } from "./editor";
import { element } from "./elements";
import { shortened } from "./numbers";
import { askBackEnd, askBrowser, type Answer } from "./places";
import { RUNTIMES, sentence, type Model, type Runtime, type RuntimeName } from "./runtime";
import { VersionChoice } from "./version_choice";
import type { Choice } from "./versions_path";

const BACK_ENDS = ["serving", "edge"] as const;
const ORDER = [...RUNTIMES, ...BACK_ENDS];

/** A model in a runtime of this browser, held against the recorded answers. */
interface Loaded {
  model: Model;
  wrong: string | null;
  cold: number;
  first: number;
  file: number;
}

const isBackEnd = (place: string) => BACK_ENDS.some((name) => name === place);

/** Whose fault it is that there is no answer: the model's, which the runtime cannot take, or the runtime's, which must not be used. */
export type Fault = "model" | "runtime";

export class Panel {
  readonly element: HTMLElement;
  private readonly drawing = element("div", { class: "drawing" });
  private readonly answer = element("p", { class: "large", "aria-live": "polite" }, "…");
  private readonly truth = element("p", { class: "truth" });
  private readonly sample = element("div", { class: "sample" });
  private readonly choices = element("div", { class: "choices", role: "group", "aria-label": "real test samples" });
  private readonly table = new AnswerTable();
  private readonly loaded = new Map<RuntimeName, Promise<Loaded>>();
  private readonly versions: VersionChoice;
  private version: Version;
  private choice: Choice;
  private spec!: Spec;
  private samples: Sample[] = [];
  private editor: Editor | null = null;
  private shown!: Sample; // one of the samples, or an input of one's own
  private pending = 0; // runs that were asked for and have not ended

  constructor(
    readonly entry: Entry,
    private readonly ask: (panel: Panel) => void,
    private readonly failed: (name: RuntimeName, fault: Fault, reason: string) => void,
  ) {
    this.versions = new VersionChoice(entry, () => ask(this));
    ({ version: this.version, choice: this.choice } = this.versions.chosen);
    this.sample.append(this.drawing, element("div", { class: "reading" }, this.answer, this.truth, this.table.verdict));
    this.element = element(
      "section",
      { class: "panel", "data-model": entry.model, "aria-busy": "true" },
      element("div", { class: "heading" }, element("h2", {}, entry.model), this.versions.element),
      element("p", { class: "task" }),
      this.sample,
      this.choices,
      this.table.element,
    );
  }

  /** False when there is nothing to ask: the panel then says why, and the others go on. */
  async prepare(): Promise<boolean> {
    try {
      await this.fillIn(this.version);
      return true;
    } catch (error) {
      this.answer.textContent = "no samples";
      this.truth.textContent = `${sentence(error)}; run \`make deploy-all\`, then load this page again`;
      this.element.setAttribute("aria-busy", "false");
      return false;
    }
  }

  /** The samples of a version, and places that have not answered yet. */
  private async fillIn(version: Version): Promise<void> {
    const read = await readSamples(version);
    const { spec, samples } = read;
    if (!samples.length) throw new Error("the evidence has no rows");
    [this.version, this.spec, this.samples] = [version, spec, samples];
    const kind = kindOf(spec);
    this.editor?.element.remove();
    this.editor = editorFor(read, (inputs) => this.edit(inputs));
    if (this.editor && kind === "image") this.drawing.after(this.editor.element);
    else if (this.editor) this.choices.before(this.editor.element);
    this.element.querySelector(".task")!.textContent = spec.task;
    this.element.dataset.kind = kind;
    this.choices.replaceChildren(
      ...samples.map((sample, place) => {
        const button = element("button", { type: "button", title: readLabel(sample.label, spec) }, drawThumbnail(sample, spec, place));
        button.addEventListener("click", () => this.choose(sample));
        return button;
      }),
    );
    for (const name of RUNTIMES) this.drop(name);
    for (const place of BACK_ENDS) this.table.remove(place);
    this.table.add({ id: "serving", name: "Server", how: "REST" }, ORDER);
    this.table.add({ id: "edge", name: "Device", how: "REST" }, ORDER);
    this.editor?.reset(samples[0]!);
    this.show(samples[0]!);
  }

  private choose(sample: Sample): void {
    this.editor?.reset(sample);
    this.show(sample);
    this.ask(this);
  }

  /** An input of one's own. While an answer is on its way, the next question is the latest input. */
  private edit(inputs: Record<string, Nested>): void {
    this.show({ inputs, outputs: null, label: null });
    if (this.pending < 2) this.ask(this);
  }

  /** Busy from here on until every `run` that was announced has ended. */
  announceRun(): void {
    this.pending++;
    this.element.setAttribute("aria-busy", "true");
  }

  /** Ask every place, one after the other, so that none slows another down. */
  async run(runtimes: Iterable<Runtime>, status: Record<BackEnd, Place>): Promise<void> {
    try {
      await this.follow();
      await this.askAll(runtimes, status);
    } finally {
      if (!--this.pending) this.element.setAttribute("aria-busy", "false");
    }
  }

  private async askAll(runtimes: Iterable<Runtime>, status: Record<BackEnd, Place>): Promise<void> {
    const sample = this.shown;
    for (const runtime of runtimes) {
      if (!this.table.has(runtime.name)) {
        this.table.add({ id: runtime.name, name: runtime.name, how: shortened(runtime.facts.accelerator) }, ORDER);
      }
      await this.report(runtime.name, sample, () => this.inBrowser(runtime, sample));
    }
    for (const place of BACK_ENDS) {
      const { up, reason, variant, address } = status[place];
      this.table.describe(place, variant ? `REST, ${variant}` : "REST", address ?? "");
      await this.report(place, sample, () => {
        if (!up) throw new Error(reason ?? "it does not answer");
        return this.inBackEnd(place, sample);
      });
    }
  }

  /** The labels that the server has are offered too. */
  listLabels(): Promise<void> {
    return this.versions.refresh();
  }

  /** Go over to the version that is chosen, or where the label that is chosen points now. Within a run, as nothing is on its way then. */
  private async follow(): Promise<void> {
    if (this.versions.byLabel) await this.versions.refresh();
    const { version, choice } = this.versions.chosen;
    try {
      if (version.version !== this.version.version) await this.fillIn(version);
      this.choice = choice;
    } catch (error) {
      this.versions.choose(this.choice);
      throw error;
    }
  }

  /** The runtime is no longer used here, or not with these files. */
  drop(name: RuntimeName): void {
    void this.loaded.get(name)?.then(({ model }) => model.dispose()).catch(() => undefined);
    this.loaded.delete(name);
    this.table.remove(name);
  }

  private async inBrowser(runtime: Runtime, sample: Sample): Promise<Answer> {
    const loading = this.loaded.get(runtime.name) ?? this.load(runtime);
    this.loaded.set(runtime.name, loading);
    const { model, wrong, ...start } = await loading.catch((error: unknown) => {
      this.failed(runtime.name, "model", sentence(error));
      throw error;
    });
    if (wrong) {
      this.failed(runtime.name, "runtime", wrong);
      throw new Error(`${runtime.name} answers wrongly here (${wrong}) and is not used`);
    }
    this.table.started(runtime.name, start);
    return askBrowser(model, sample, this.spec);
  }

  /** Load the model and hold what the runtime makes of it against the reference, before any answer of it is shown. */
  private async load(runtime: Runtime): Promise<Loaded> {
    const file = this.version.files[runtime.format];
    if (file.error !== null) throw new Error(file.error);
    const began = performance.now();
    const model = await runtime.load(file.url);
    const loading = performance.now() - began;
    const { wrong, first } = await checkModel(model, this.samples, this.spec);
    return { model, wrong, cold: runtime.startMilliseconds + loading + first, first: loading + first, file: file.bytes };
  }

  private async inBackEnd(place: BackEnd, sample: Sample): Promise<Answer> {
    // The device knows no labels.
    const choice = place === "serving" ? this.choice : { version: this.version.version };
    const answer = await askBackEnd(place, this.entry.model, choice, sample, this.spec);
    if (!this.table.hasStarted(place)) this.table.started(place, { cold: null, first: answer.milliseconds, file: null });
    return answer;
  }

  private async report(place: string, sample: Sample, ask: () => Promise<Answer>): Promise<void> {
    try {
      const timed = this.table.hasStarted(place) || !isBackEnd(place);
      const answer = await ask();
      if (sample !== this.shown || !this.table.has(place)) return; // another is shown meanwhile; its run follows
      this.table.fill(place, answer, this.spec, timed);
    } catch (error) {
      if (sample !== this.shown || !this.table.has(place)) return;
      this.table.fail(place, sentence(error));
    }
    this.table.judge(sample, this.spec);
    this.showAnswer();
  }

  private showAnswer(): void {
    const outputs = this.table.outputs();
    if (!outputs) return void this.answer.replaceChildren("no answer");
    const { answer, unit } = read(outputs, this.spec);
    this.answer.replaceChildren(answer, unit ? element("small", {}, ` ${unit}`) : "");
    this.draw(outputs);
  }

  private show(sample: Sample): void {
    this.shown = sample;
    this.table.clear();
    [...this.choices.children].forEach((button, place) =>
      button.setAttribute("aria-pressed", String(sample === this.samples[place])),
    );
    this.truth.textContent = sample.outputs ? readLabel(sample.label, this.spec) : "your own input";
    this.draw();
  }

  private draw(outputs?: Outputs): void {
    const { decision, inputs } = this.spec;
    const sameUnit = decision?.kind === "value" && decision.unit === inputs[0]?.unit;
    const prediction = sameUnit ? outputs?.[decision.output]?.[0] : undefined;
    this.drawing.replaceChildren(drawSample(this.shown, this.spec, prediction));
  }
}
