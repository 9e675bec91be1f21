// The table of a panel: what each place answers, how long it takes, what it moves, and whether it agrees.

import type { Sample, Spec } from "./catalogue";
import { compare, read, referenceOf, type Agreement, type Outputs } from "./decision";
import { element } from "./elements";
import { bytes, difference, median, milliseconds } from "./numbers";
import type { Answer } from "./places";

const WORDS: Record<Agreement, [sign: string, words: string]> = {
  same: ["=", "same numbers"],
  close: ["≈", "same decision"],
  other: ["≠", "differs"],
};
const COLUMNS: [words: string, title: string][] = [
  ["answer", "what the model decides"],
  ["score", "its probability"],
  ["cold ms", "from the start of the runtime to its first answer, loading included; a back end was running already"],
  ["first ms", "to open the model and answer once; of a back end, its first answer to this page"],
  ["steady ms", "the median of the latest answers"],
  ["moved", "bytes over the network: of each answer; for a runtime, of the model's file, once"],
];
const LATEST = 21; // answers that count for the steady time

/** A place that may answer: a runtime of this browser, the server, the device. */
export interface Place {
  id: string;
  name: string;
  how: string;
}

export interface Start {
  /** Milliseconds; null where it had begun before this page did. */
  cold: number | null;
  first: number;
  /** Bytes of the model's file; null where none is loaded here. */
  file: number | null;
}

interface Row {
  place: Place;
  element: HTMLTableRowElement;
  cells: Record<string, HTMLTableCellElement>;
  started: boolean; // whether its first answer was timed
  times: number[]; // milliseconds of those after it
  file: number | null;
  answer?: Answer;
  agreement?: Agreement;
}

export class AnswerTable {
  readonly element: HTMLElement;
  /** Who agrees, in one line that is readable from afar. */
  readonly verdict = element("p", { class: "agreement", role: "status" });
  private readonly body = element("tbody");
  private readonly against = element("th", { scope: "col" });
  private readonly rows = new Map<string, Row>();

  constructor() {
    const heads = COLUMNS.map(([words, title]) => element("th", { scope: "col", class: columnOf(words), title }, words));
    const head = element("tr", {}, element("th", { scope: "col" }, element("span", { class: "unseen" }, "place")), ...heads, this.against);
    this.element = element("table", { class: "answers" }, element("thead", {}, head), this.body);
  }

  /** Add a place, below those that `order` names before it. */
  add(place: Place, order: readonly string[]): void {
    const cell = (name: string) => element("td", { class: name, "data-column": name });
    const cells = Object.fromEntries([...COLUMNS.map(([words]) => columnOf(words)), "verdict"].map((name) => [name, cell(name)]));
    const head = element("th", { scope: "row" }, place.name, element("small", {}, place.how));
    const made = element("tr", { "data-place": place.id }, head, ...Object.values(cells));
    const later = order.slice(order.indexOf(place.id) + 1).find((id) => this.rows.has(id));
    this.body.insertBefore(made, later ? this.rows.get(later)!.element : null);
    this.rows.set(place.id, { place, element: made, cells, started: false, times: [], file: null });
  }

  remove(id: string): void {
    this.rows.get(id)?.element.remove();
    this.rows.delete(id);
  }

  has(id: string): boolean {
    return this.rows.has(id);
  }

  /** Whether it is known how long the place took for its first answer. */
  hasStarted(id: string): boolean {
    return !!this.rows.get(id)?.started;
  }

  describe(id: string, how: string, address: string): void {
    const head = this.rows.get(id)!.element.querySelector("th")!;
    head.querySelector("small")!.textContent = how;
    head.title = address;
  }

  // What arrives for a place that was removed meanwhile is dropped.

  started(id: string, { cold, first, file }: Start): void {
    const row = this.rows.get(id);
    if (!row) return;
    row.cells.cold!.textContent = cold === null ? "–" : milliseconds(cold);
    row.cells.first!.textContent = milliseconds(first);
    [row.started, row.file] = [true, file];
  }

  /** `timed`: whether its time is one of the steady ones. */
  fill(id: string, answer: Answer, spec: Spec, timed: boolean): void {
    const row = this.rows.get(id);
    if (!row) return;
    const reading = read(answer.outputs, spec);
    row.answer = answer;
    if (timed) row.times = [...row.times, answer.milliseconds].slice(-LATEST);
    row.cells.answer!.textContent = reading.unit ? `${reading.answer} ${reading.unit}` : reading.answer;
    row.cells.score!.textContent = reading.score;
    row.cells.steady!.textContent = row.times.length ? milliseconds(median(row.times)) : "–";
    row.cells.moved!.textContent = bytes(row.file ?? answer.moved);
    spread(row, false);
  }

  fail(id: string, reason: string): void {
    const row = this.rows.get(id);
    if (!row) return;
    row.answer = undefined;
    row.agreement = undefined;
    row.cells.answer!.textContent = "no answer";
    row.cells.verdict!.replaceChildren(reason);
    row.element.dataset.agreement = "down";
    spread(row, true);
  }

  /** Another sample is shown: nobody has answered to it yet. */
  clear(): void {
    for (const row of this.rows.values()) [row.answer, row.agreement] = [undefined, undefined];
  }

  /** Of the first that answered; what it says is shown large. */
  outputs(): Outputs | undefined {
    return this.inOrder().find((row) => row.answer)?.answer!.outputs;
  }

  /** Every answer against the recorded one; to an input of one's own nobody recorded any, so a float model's counts, the server's first. */
  judge(sample: Sample, spec: Spec): void {
    const recorded = referenceOf(sample);
    const judge = recorded ? undefined : [this.rows.get("serving"), ...this.inOrder()].find((row) => row?.answer);
    const reference = recorded ?? judge?.answer!.outputs;
    this.against.textContent = `against ${recorded ? "Keras" : judge ? judge.place.name : "nobody"}`;
    for (const row of this.rows.values()) {
      if (!row.answer || !reference) continue;
      if (row === judge) {
        row.cells.verdict!.textContent = "reference";
        row.element.dataset.agreement = "reference";
        continue;
      }
      const { agreement, largest } = compare(row.answer.outputs, reference, spec);
      const [sign, words] = WORDS[agreement];
      row.cells.verdict!.replaceChildren(element("b", { "aria-hidden": "true" }, sign), element("span", { class: "unseen" }, words), ` Δ ${difference(largest)}`);
      row.cells.verdict!.title = words;
      row.element.dataset.agreement = row.agreement = agreement;
    }
    this.summarise(recorded !== null);
  }

  private inOrder(): Row[] {
    return [...this.body.rows].map((made) => this.rows.get(made.dataset.place!)!);
  }

  private summarise(recorded: boolean): void {
    const judged = this.inOrder().filter((row) => row.agreement);
    if (!judged.length) return this.verdict.replaceChildren();
    const other = judged.filter((row) => row.agreement === "other").map((row) => row.place.name);
    const worst: Agreement = other.length ? "other" : judged.some((row) => row.agreement === "close") ? "close" : "same";
    const who = recorded ? `all ${judged.length}` : `${judged.length} more`;
    const words = { same: `${who}: the same numbers`, close: `${who}: the same decision`, other: `${other.join(", ")}: another decision` };
    this.verdict.dataset.agreement = worst;
    this.verdict.replaceChildren(element("b", { "aria-hidden": "true" }, WORDS[worst][0]), ` ${words[worst]}`);
  }
}

const columnOf = (words: string) => words.split(" ")[0]!;

/** A reason takes the room of the numbers that it stands for. */
function spread(row: Row, failed: boolean): void {
  for (const [words] of COLUMNS.slice(1)) row.cells[columnOf(words)]!.hidden = failed;
  row.cells.verdict!.colSpan = failed ? COLUMNS.length : 1;
}
