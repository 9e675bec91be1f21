// The comparison: the last report as charts and a table, and beside it what this browser measures.

import "../style.css";
import "./comparison.css";
import { listModels, type Entry } from "../catalogue";
import { element } from "../elements";
import { remember } from "../preferred";
import { RUNTIMES, sentence } from "../runtime";
import { describe, describeNothing } from "./about";
import { Filters } from "./filters";
import { drawLines, ERROR, LATENCY, STAGES } from "./lines";
import { drawSizes } from "./scatter";
import { readSummary, targetHere, type Row } from "./summary";
import { Table } from "./table";
import { isNamed, isShown, questionOf, readView, type View } from "./view";

const find = <T extends HTMLElement>(selector: string) => document.querySelector<T>(selector)!;
const main = find("main");
const [run, stop, own] = [find<HTMLButtonElement>("#run"), find<HTMLButtonElement>("#stop"), find<HTMLAnchorElement>("#own")];
const [done, progress] = [find<HTMLProgressElement>("#done"), find("#progress")];

let view = readView(location.search);
let models: Entry[] = [];
let reported: Row[] = [];
const measured = new Map<string, Row>();
let stopping: AbortController | undefined; // while this browser measures

const filters = new Filters(find("#filters"), (change, goesOn) => go({ ...view, ...change }, goesOn));
const table = new Table((column) => go({ ...view, sort: column, descending: view.sort === column && !view.descending }));
find("#rows").append(table.element);

function go(to: View, goesOn = false): void {
  view = to;
  const address = location.pathname + questionOf(view);
  if (goesOn) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  void show();
}

window.addEventListener("popstate", () => {
  view = readView(location.search);
  void show();
});

/** Rows of this browser stand beside the same target's rows of the report. */
function allRows(): Row[] {
  const rows = [...reported];
  for (const row of measured.values()) {
    const place = rows.findIndex(({ model, version, target }) => model === row.model && version === row.version && targetHere(target) === row.target);
    rows.splice(place < 0 ? rows.length : place + 1, 0, row);
  }
  return rows;
}

function show(): Promise<void> {
  const rows = allRows();
  const shown = rows.filter((row) => isShown(row, view));
  filters.show(view, rows, shown.length);
  table.show(shown, view);
  showPlan();
  return drawCharts(shown);
}

const CHARTS: [place: HTMLElement, draw: (rows: Row[], width: number) => Element[]][] = [
  [find("#latency .plots"), (rows, width) => drawLines(LATENCY, rows, width)],
  [find("#error .plots"), (rows, width) => drawLines(ERROR, rows, width)],
  [find("#size .plots"), drawSizes],
  [find("#stages .plots"), (rows, width) => drawLines(STAGES, rows, width)],
];
let drawn: { rows: Row[]; width: number } | undefined; // or being drawn

/** One chart at a time: what somebody does meanwhile comes first, and may make the others out of date. */
async function drawCharts(rows: Row[]): Promise<void> {
  const width = CHARTS[0]![0].clientWidth;
  if (drawn?.width === width && drawn.rows.length === rows.length && drawn.rows.every((row, place) => row === rows[place])) return;
  const turn = (drawn = { rows, width });
  const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 15; // style.css makes all larger on a projector
  main.setAttribute("aria-busy", "true");
  try {
    for (const [place, draw] of CHARTS) {
      await new Promise((resolve) => setTimeout(resolve));
      if (turn !== drawn) return;
      const drawings = rows.length ? draw(rows, width / scale) : [];
      for (const drawing of drawings) for (const side of ["width", "height"]) drawing.setAttribute(side, String(scale * Number(drawing.getAttribute(side))));
      place.replaceChildren(...(drawings.length ? drawings : [element("p", { class: "notice" }, "Nothing to show here.")]));
    }
  } finally {
    if (turn === drawn) main.setAttribute("aria-busy", "false");
  }
}

new ResizeObserver(() => drawn && void drawCharts(drawn.rows)).observe(main);

/** The models and runtimes that the filters leave. */
function plan() {
  return {
    entries: models.filter(({ model, version }) => (!view.model || view.model === model) && (!view.version || view.version === String(version))),
    names: RUNTIMES.filter((name) => isNamed(targetHere(name), view.target) && (!view.kind || view.kind === "here" || name.startsWith(`${view.kind}-`))),
  };
}

function showPlan(): void {
  const { entries, names } = plan();
  const some = entries.length > 0 && names.length > 0;
  run.disabled = !some || !!stopping;
  const none = models.length ? "The filters leave nothing that runs in a browser." : "There are no models yet: run `make deploy-all`.";
  find("#plan").textContent = some ? `${count(entries.length, "model")} × ${count(names.length, "runtime")}, as the filters leave them` : none;
}

const count = (number: number, what: string) => `${number} ${what}${number === 1 ? "" : "s"}`;

run.addEventListener("click", () => {
  const { entries, names } = plan();
  [done.value, done.max] = [0, entries.length * names.length];
  void measureHere(entries, names);
});
stop.addEventListener("click", () => stopping?.abort(new Error("stopped")));

async function measureHere(...[entries, names]: [Entry[], ReturnType<typeof plan>["names"]]): Promise<void> {
  stopping = new AbortController();
  [run.disabled, stop.hidden, done.hidden] = [true, false, false];
  const watcher = {
    say: (what: string) => (progress.textContent = what),
    count: () => done.value++,
    show: (rows: Row[]) => {
      for (const row of rows) measured.set(`${row.model} ${row.version} ${row.target}`, row);
      return show();
    },
  };
  try {
    const { measure } = await import("./measure");
    await measure(entries, names, watcher, stopping.signal);
    if (entries.length === models.length) remember(fastest(entries, names));
    progress.textContent = `Measured: ${count(measured.size, "row")} of this browser, named “· here”.`;
  } catch (error) {
    progress.textContent = `${sentence(error)}; what was measured until then stays.`;
  }
  stopping = undefined;
  [stop.hidden, done.hidden] = [true, true];
  offerOwn();
  showPlan();
}

/** Those that were right for every model, by the product of their medians, in which every model counts alike. */
function fastest(...[entries, names]: Parameters<typeof measureHere>): typeof names {
  const product = (name: (typeof names)[number]) =>
    entries.reduce((product, { model, version }) => {
      const row = measured.get(`${model} ${version} ${targetHere(name)}`);
      return product * ((row?.verdict === "pass" && row.latency[0]?.p50_ms) || NaN);
    }, 1);
  return names.filter((name) => !Number.isNaN(product(name))).sort((one, other) => product(one) - product(other));
}

function offerOwn(): void {
  if (!measured.size) return;
  URL.revokeObjectURL(own.href);
  const about = { created: new Date().toISOString(), browser: navigator.userAgent, cores: navigator.hardwareConcurrency };
  const content = JSON.stringify({ ...about, rows: [...measured.values()] }, null, 2);
  own.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  own.hidden = false;
}

async function open(): Promise<void> {
  const about = find("#about");
  try {
    const listed = await listModels();
    models = listed.models;
    if (listed.report) {
      const summary = await readSummary();
      reported = summary.rows;
      about.append(...describe(summary));
      for (const id of ["#report", "#raw"]) find(id).hidden = false;
    } else about.append(...describeNothing());
  } catch (error) {
    about.append(element("p", { class: "notice", role: "alert" }, sentence(error)));
  }
  await show();
}

void open();
