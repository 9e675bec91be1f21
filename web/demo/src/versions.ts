// Versions, live: the server is asked by its labels, and every answer tells which version gave it.

import "./versions.css";
import { LABELS, readLabels, type Entry, type Labels } from "./catalogue";
import { element } from "./elements";
import { Lane } from "./lane";
import { askBackEnd } from "./places";
import { readRecorded, versionsOf, type Recorded } from "./recorded";
import { sentence } from "./runtime";

const PERIOD_MS = 200; // five requests a second by each label
const FRESH_MS = 1000; // how old what is known of the labels may be
const EVENTS = 12; // lines that stay

export class Versions {
  readonly element: HTMLElement;
  private readonly select = element("select");
  private readonly button = element("button", { type: "button" }, "Watch");
  private readonly side = element("div", { class: "lanes" });
  private readonly events = element("div", { class: "events", role: "log", "aria-live": "polite", "aria-label": "changes of version" });
  private readonly commands = element("p", { class: "commands" });
  private lanes: Lane[] = [];
  private watch: object | null = null; // what goes on; another one stands for another start
  private labels?: Promise<Labels>;
  private asked = -Infinity; // when the labels were, in ms of this page's clock

  /** `models`: one at least. */
  constructor(private readonly models: Entry[]) {
    this.select.append(...models.map(({ model }) => element("option", {}, model)));
    this.select.addEventListener("change", () => this.choose());
    this.button.addEventListener("click", () => (this.watch ? this.stop() : void this.start()));
    this.element = element(
      "section",
      { class: "versions", "aria-label": "versions, live" },
      element("div", { class: "bar" }, element("h2", {}, "Versions, live"), element("label", {}, "model ", this.select), this.button),
      element("p", { class: "task" }, "The server is asked by label, five times a second. Which version answered is read from the numbers, not from the label."),
      this.side,
      this.events,
      this.commands,
    );
    this.choose();
  }

  private get entry(): Entry {
    return this.models[this.select.selectedIndex]!;
  }

  private choose(): void {
    const going = this.watch !== null;
    this.stop();
    const { model, versions } = this.entry;
    this.lanes = LABELS.map((label) => new Lane(label, versions.map(({ version }) => version)));
    this.side.replaceChildren(...this.lanes.map((lane) => lane.element));
    this.events.replaceChildren();
    const command = (name: string) => element("code", {}, `make ${name} MODEL=${model}`);
    this.commands.replaceChildren("Type ", command("promote"), " to move stable to the version of canary, and ", command("rollback"), " to move it back.");
    if (going) void this.start();
  }

  private stop(): void {
    this.watch = null;
    this.button.textContent = "Watch";
  }

  private async start(): Promise<void> {
    const watch = (this.watch = {});
    this.button.textContent = "Stop";
    this.asked = -Infinity;
    const entry = this.entry;
    const going = () => this.watch === watch;
    try {
      const recorded = await readRecorded(entry);
      await Promise.all(this.lanes.map((lane) => this.follow(lane, entry, recorded, going)));
    } catch (error) {
      if (!going()) return;
      this.tell(sentence(error));
      this.stop();
    }
  }

  /** One request at a time, the samples in turn, for as long as somebody looks. */
  private async follow(lane: Lane, entry: Entry, recorded: Recorded, going: () => boolean): Promise<void> {
    for (let turn = 0; going(); turn++) {
      const start = performance.now();
      await this.ask(lane, entry, recorded, turn, going);
      await pause(PERIOD_MS - (performance.now() - start));
      await visible();
    }
  }

  private async ask(lane: Lane, entry: Entry, { spec, questions }: Recorded, turn: number, going: () => boolean): Promise<void> {
    const { labels, reason } = await this.known(entry.model);
    if (!going() || document.hidden) return;
    const pointed = labels[lane.label];
    if (!pointed) {
      return this.hold(lane, reason ?? `the server has no label ${lane.label} for ${entry.model}; run \`make publish\``);
    }
    const question = questions[turn % questions.length]!;
    const start = performance.now();
    try {
      const { outputs, milliseconds } = await askBackEnd("serving", entry.model, { label: lane.label }, question.sample, spec);
      if (!going()) return;
      const versions = versionsOf(outputs, question, spec);
      const version = versions.includes(pointed.version) ? pointed.version : versions[0];
      const before = lane.add({ by: version ?? "wrong", milliseconds });
      if (before !== null) {
        this.tell(`${lane.label} moved from ${before} to ${version} after ${lane.requests} requests, ${lane.count("failed")} failed`);
      }
      this.hold(lane, version === undefined ? "the answer is not what any version recorded" : null);
      if (!lane.obstacle) lane.explain(`the label points to version ${pointed.version}, ${pointed.state}`);
    } catch (error) {
      if (!going()) return;
      lane.add({ by: "failed", milliseconds: performance.now() - start });
      this.hold(lane, sentence(error));
      this.asked = -Infinity; // before the next request
    }
  }

  /** What keeps a label from answering, told once when it begins and once when it is over. */
  private hold(lane: Lane, obstacle: string | null): void {
    if (obstacle === lane.obstacle) return;
    lane.obstacle = obstacle;
    if (obstacle) lane.explain(obstacle);
    this.tell(`${lane.label}${obstacle ? `: ${obstacle}` : " answers again"}`);
  }

  /** Where the labels point: asked first, as a request that fails would stand in the console. Both lanes share it. */
  private known(model: string): Promise<Labels> {
    if (!this.labels || performance.now() - this.asked > FRESH_MS) {
      this.asked = performance.now();
      this.labels = readLabels(model).catch(() => ({ labels: {}, reason: "the page's own server does not answer; run `make status`" }));
    }
    return this.labels;
  }

  private tell(what: string): void {
    this.events.prepend(element("p", {}, element("time", {}, new Date().toLocaleTimeString()), ` ${what}`));
    while (this.events.children.length > EVENTS) this.events.lastChild!.remove();
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, Math.max(0, ms)));

/** A hidden tab asks nothing until it is shown again. */
function visible(): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", () => resolve(), { once: true }));
}
