// One panel per model: a sample, and what each place answers to it.

import { readSamples, type BackEnd, type Entry, type Nested, type Place, type Sample, type Spec } from "./catalogue";
import { compare, read, readLabel, referenceOf, type Agreement, type Outputs } from "./decision";
import { drawSample, drawThumbnail, kindOf } from "./drawings";
import { editorFor, type Editor } from "./editor";
import { element } from "./elements";
import { difference, milliseconds } from "./numbers";
import { askBackEnd, askBrowser, type Answer } from "./places";
import { checkModel } from "./check";
import { sentence, type Model, type Runtime } from "./runtime";

const WORDS: Record<Agreement, [sign: string, words: string]> = {
  same: ["=", "same numbers"],
  close: ["≈", "same decision"],
  other: ["≠", "differs"],
};

interface Checked {
  model: Model;
  wrong: string | null;
  first: number;
}

type PlaceName = "browser" | BackEnd;
interface Row {
  answer: HTMLElement;
  score: HTMLElement;
  first: HTMLElement;
  then: HTMLElement;
  verdict: HTMLTableCellElement;
  element: HTMLTableRowElement;
  asked: boolean;
}

export class Panel {
  readonly element: HTMLElement;
  private readonly drawing = element("div", { class: "drawing" });
  private readonly answer = element("p", { class: "answer", "aria-live": "polite" }, "…");
  private readonly truth = element("p", { class: "truth" });
  private readonly choices = element("div", { class: "choices", role: "group", "aria-label": "real test samples" });
  private readonly body = element("tbody");
  private readonly against = element("th", { scope: "col" });
  private readonly rows = new Map<PlaceName, Row>();
  private spec!: Spec;
  private samples: Sample[] = [];
  private editor: Editor | null = null;
  private shown!: Sample; // one of the samples, or an input of one's own
  private answers = new Map<PlaceName, Answer>(); // to what is shown
  private model?: Promise<Checked>; // of the runtime that was asked last
  private pending = 0; // runs that were asked for and have not ended

  constructor(
    readonly entry: Entry,
    private readonly ask: (panel: Panel) => void,
    /** Called with the reason when the runtime of this page gives wrong answers for this model. */
    private readonly refused: (reason: string) => void,
  ) {
    const heading = element("h2", {}, entry.model, element("small", {}, ` version ${entry.version}`));
    const columns = ["", "answer", "score", "first", "then"];
    const head = element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)), this.against);
    this.element = element(
      "section",
      { class: "panel", "data-model": entry.model, "aria-busy": "true" },
      heading,
      element("p", { class: "task" }),
      element("div", { class: "sample" }, this.drawing, element("div", { class: "reading" }, this.answer, this.truth)),
      this.choices,
      element("table", { class: "answers" }, element("thead", {}, head), this.body),
    );
  }

  /** False when there is nothing to ask: the panel then says why, and the others go on. */
  async prepare(): Promise<boolean> {
    try {
      await this.fillIn();
      return true;
    } catch (error) {
      this.answer.textContent = "no samples";
      this.truth.textContent = `${sentence(error)}; run \`make deploy-all\`, then load this page again`;
      this.element.setAttribute("aria-busy", "false");
      return false;
    }
  }

  private async fillIn(): Promise<void> {
    const { spec, samples, series } = await readSamples(this.entry);
    [this.spec, this.samples] = [spec, samples];
    this.editor = editorFor(spec, series, (inputs) => this.edit(inputs));
    if (this.editor) this.choices.before(this.editor.element);
    this.element.querySelector(".task")!.textContent = spec.task;
    this.element.dataset.kind = kindOf(spec);
    this.choices.append(
      ...samples.map((sample, place) => {
        const button = element("button", { type: "button", title: readLabel(sample.label, spec) }, drawThumbnail(sample, spec, place));
        button.addEventListener("click", () => this.choose(sample));
        return button;
      }),
    );
    this.addRow("browser", "Browser", "");
    this.addRow("serving", "Server", "REST");
    this.addRow("edge", "Device", "REST");
    if (!samples.length) throw new Error("the evidence has no rows");
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

  /** Ask the three places, one after the other, so that none slows another down. */
  async run(runtime: Runtime | undefined, status: Record<BackEnd, Place>): Promise<void> {
    const sample = this.shown;
    await this.report("browser", sample, () => this.inBrowser(runtime, sample));
    for (const place of ["serving", "edge"] as const) {
      const { up, reason, variant } = status[place];
      if (variant) this.rows.get(place)!.element.querySelector("small")!.textContent = ` REST, ${variant}`;
      await this.report(place, sample, () => {
        if (!up) throw new Error(reason ?? "it does not answer");
        return askBackEnd(place, this.entry, sample, this.spec);
      });
    }
    if (!--this.pending) this.element.setAttribute("aria-busy", "false");
  }

  /** Give the model back: the next answer loads it into the runtime that is chosen then. */
  unload(): void {
    void this.model?.then(({ model }) => model.dispose()).catch(() => undefined);
    this.model = undefined;
    const row = this.rows.get("browser");
    if (row) [row.asked, row.first.textContent, row.then.textContent] = [false, "", ""];
  }

  private async inBrowser(runtime: Runtime | undefined, sample: Sample): Promise<Answer> {
    if (!runtime) throw new Error("no runtime works in this browser");
    const { model, wrong, first } = await (this.model ??= this.load(runtime));
    if (wrong) {
      this.refused(wrong);
      throw new Error(`${runtime.name} answers wrongly here (${wrong}) and is not used`);
    }
    return { ...(await askBrowser(model, sample, this.spec)), first };
  }

  /** Load the model and hold what the runtime makes of it against the reference, before any answer of it is shown. */
  private async load(runtime: Runtime): Promise<Checked> {
    const file = this.entry.files[runtime.format];
    this.rows.get("browser")!.element.querySelector("small")!.textContent = ` ${runtime.name}`;
    if (file.error !== null) throw new Error(file.error);
    const model = await runtime.load(file.url);
    return { model, ...(await checkModel(model, this.samples, this.spec)) };
  }

  private async report(place: PlaceName, sample: Sample, ask: () => Answer | Promise<Answer>): Promise<void> {
    const row = this.rows.get(place)!;
    try {
      const first = row.asked ? undefined : await ask();
      const answer = await ask();
      if (first) row.first.textContent = milliseconds(first.first ?? first.milliseconds);
      row.asked = true;
      if (sample !== this.shown) return; // another is shown meanwhile; its run follows
      this.answers.set(place, answer);
      this.fill(row, answer, place);
      this.judge();
    } catch (error) {
      if (sample === this.shown) this.fillFailure(row, sentence(error), place);
    }
  }

  private fill(row: Row, { outputs, milliseconds: elapsed }: Answer, place: PlaceName): void {
    const reading = read(outputs, this.spec);
    row.answer.textContent = reading.unit ? `${reading.answer} ${reading.unit}` : reading.answer;
    row.score.textContent = reading.score;
    row.then.textContent = milliseconds(elapsed);
    spread(row, 1);
    if (place === "browser") {
      this.answer.replaceChildren(reading.answer, reading.unit ? element("small", {}, ` ${reading.unit}`) : "");
      this.draw(outputs);
    }
  }

  /** Every answer against the recorded one; to an input of one's own nobody recorded any, so the first float model's counts. */
  private judge(): void {
    const recorded = referenceOf(this.shown);
    const judge = recorded ? null : (["serving", "browser"] as const).find((place) => this.answers.has(place));
    const reference = recorded ?? (judge && this.answers.get(judge)!.outputs);
    this.against.textContent = recorded ? "against Keras" : judge === "serving" ? "against the server" : "against the browser";
    if (!reference) return;
    for (const [place, { outputs }] of this.answers) {
      const row = this.rows.get(place)!;
      const { agreement, largest } = compare(outputs, reference, this.spec);
      const [sign, words] = WORDS[agreement];
      row.verdict.replaceChildren(element("b", { "aria-hidden": "true" }, sign), words, element("small", {}, `Δ ${difference(largest)}`));
      row.element.dataset.agreement = agreement;
    }
  }

  private fillFailure(row: Row, reason: string, place: PlaceName): void {
    row.answer.textContent = "no answer";
    row.verdict.replaceChildren(reason);
    spread(row, 4);
    row.element.dataset.agreement = "down";
    if (place === "browser") this.answer.textContent = "no answer here";
  }

  private show(sample: Sample): void {
    this.shown = sample;
    this.answers.clear();
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

  private addRow(place: PlaceName, name: string, how: string): void {
    const cell = (column: string) => element("td", { class: column, "data-column": column });
    const [answer, score, first, then, verdict] = [cell("name"), cell("score"), cell("first"), cell("then"), cell("verdict")];
    const head = element("th", { scope: "row" }, name, element("small", {}, ` ${how}`));
    const made = element("tr", { "data-place": place }, head, answer, score, first, then, verdict);
    this.rows.set(place, { answer, score, first, then, verdict, element: made, asked: false });
    this.body.append(made);
  }
}

/** A reason takes the room of the numbers that it stands for. */
function spread(row: Row, columns: 1 | 4): void {
  for (const cell of [row.score, row.first, row.then]) cell.hidden = columns > 1;
  row.verdict.colSpan = columns;
}
