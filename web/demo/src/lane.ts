// One label under watch: the version that gave each of the last answers as a step line, and the counts.

import type { Label } from "./catalogue";
import { element, svg } from "./elements";
import { median, milliseconds } from "./numbers";

export type Fault = "failed" | "wrong";
export interface Outcome {
  /** The version that answered, or why none counts: the request failed, or the answer is no version's. */
  by: number | Fault;
  milliseconds: number;
}

const SHOWN = 60; // requests that the line reaches back
const ROW = 22; // between two versions
const STEP = 5.6; // between two requests
const SIGNS: Record<Fault, string> = { failed: "m-3 -3 l6 6 m0 -6 l-6 6", wrong: "m-4 -2 h8 m0 4 h-8 m2 3 l4 -10" }; // ✕ ≠

export class Lane {
  readonly element: HTMLElement;
  requests = 0;
  /** Why there is no answer now; null while there is. */
  obstacle: string | null = null;
  private version: number | null = null;
  private last: Outcome[] = [];
  private readonly counts = new Map<number | Fault, number>();
  private readonly now = element("b", {}, "–");
  private readonly note = element("p", { class: "note" });
  private readonly line = element("div");
  private readonly figures = new Map<string, HTMLElement>();

  /** `versions`: all of the model, the newest first. */
  constructor(
    readonly label: Label,
    private readonly versions: number[],
  ) {
    const names = ["requests", "failed", "wrong", ...[...versions].reverse().map((version) => `version ${version}`), "median"];
    for (const name of names) this.figures.set(name, element("dd"));
    const figures = [...this.figures].map(([name, figure]) => element("div", { "data-name": name }, element("dt", {}, name), figure));
    this.element = element(
      "article",
      { class: "lane", "data-label": label },
      element("h3", {}, label),
      element("p", { class: "now" }, element("small", {}, "version "), this.now),
      this.note,
      this.line,
      element("figcaption", {}, `the last ${SHOWN} requests, ✕ failed, ≠ wrong`),
      element("dl", {}, ...figures),
    );
    this.draw();
  }

  /** Count and draw it. Returns the version before, where this is another. */
  add(outcome: Outcome): number | null {
    const before = this.version;
    this.requests++;
    this.counts.set(outcome.by, this.count(outcome.by) + 1);
    this.last = [...this.last, outcome].slice(-SHOWN);
    if (typeof outcome.by === "number") this.version = outcome.by;
    this.draw();
    return this.version === before ? null : before;
  }

  count(by: number | Fault): number {
    return this.counts.get(by) ?? 0;
  }

  explain(note: string): void {
    if (this.note.textContent !== note) this.note.textContent = note;
    this.element.dataset.state = this.obstacle === null ? "answers" : "obstacle";
  }

  private draw(): void {
    const now = this.version === null ? "–" : String(this.version);
    if (this.now.textContent !== now) this.now.textContent = now;
    this.line.replaceChildren(this.steps());
    this.figures.get("requests")!.textContent = String(this.requests);
    for (const fault of ["failed", "wrong"] as const) {
      this.figures.get(fault)!.textContent = String(this.count(fault));
      this.figures.get(fault)!.dataset.state = this.count(fault) ? "fault" : "";
    }
    for (const version of this.versions) this.figures.get(`version ${version}`)!.textContent = String(this.count(version));
    const answered = this.last.filter(({ by }) => typeof by === "number").map((outcome) => outcome.milliseconds);
    this.figures.get("median")!.textContent = answered.length ? `${milliseconds(median(answered))} ms` : "–";
  }

  /** The newest version is the highest row; what failed or was wrong stands below all of them, and breaks the line. */
  private steps(): SVGElement {
    const left = 10 + 7 * Math.max(...this.versions.map((version) => String(version).length));
    const [width, height] = [left + SHOWN * STEP + 4, (this.versions.length + 1) * ROW];
    const y = (by: number | Fault) => ROW * ((typeof by === "number" ? this.versions.indexOf(by) : this.versions.length) + 0.5);
    const rows = this.versions.map((version) => [
      svg("line", { x1: left, x2: width, y1: y(version), y2: y(version), class: "level" }),
      svg("text", { x: left - 6, y: y(version) + 4, class: "number" }, String(version)),
    ]);
    let path = "";
    let joined = false;
    const signs = this.last.flatMap(({ by }, place) => {
      const x = left + place * STEP;
      if (typeof by !== "number") {
        joined = false;
        return [svg("path", { d: `M${(x + STEP / 2).toFixed(1)} ${y(by)} ${SIGNS[by]}`, class: "fault" })];
      }
      path += `${joined ? `V${y(by)}` : `M${x.toFixed(1)} ${y(by)}`}H${(x + STEP).toFixed(1)}`;
      joined = true;
      return [];
    });
    const name = `${this.label}: ${this.last.length ? this.summary() : "not asked yet"}`;
    return svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name },
      ...rows.flat(),
      ...(path ? [svg("path", { d: path, class: "steps" })] : []),
      ...signs,
    );
  }

  private summary(): string {
    const of = (by: number | Fault) => this.last.filter((outcome) => outcome.by === by).length;
    const versions = this.versions.map((version) => `${of(version)} by version ${version}`);
    return `of the last ${this.last.length} requests ${versions.join(", ")}, ${of("failed")} failed, ${of("wrong")} wrong`;
  }
}
