// The page: the head with its switches of runtimes and the state of the places, then a panel for every model that is listed.

import "./style.css";
import { listModels, readStatus, type BackEnd, type Place } from "./catalogue";
import { element } from "./elements";
import { shortened } from "./numbers";
import { keepForOffline } from "./offline";
import { Panel, type Fault } from "./panel";
import { inOrder } from "./preferred";
import { RUNTIMES, sentence, startRuntime, type Runtime, type RuntimeName } from "./runtime";
import { Versions } from "./versions";

const STATUS_LASTS_MS = 2000;
const NONE = "none"; // in the address, for no runtime at all

const places = document.querySelector<HTMLElement>("#places")!;
const switches = document.querySelector<HTMLElement>("#runtimes")!;
const main = document.querySelector<HTMLElement>("main")!;
const boxes = new Map<RuntimeName, HTMLInputElement>();
const running = new Map<RuntimeName, Runtime>(); // what answers in this browser
const faulty = new Set<string>();
let panels: Panel[] = [];
let untried: RuntimeName[] = []; // what may take a runtime's place; nothing once somebody has chosen
let work: Promise<void> = Promise.resolve(); // one thing at a time: timings must not overlap

function enqueue(task: () => Promise<void>): void {
  work = work.then(task).catch((error: unknown) => {
    main.prepend(element("p", { class: "notice", role: "alert" }, sentence(error)));
  });
}

type Status = Record<BackEnd, Place>;
let known: { status: Status; since: number } | undefined;

async function status(): Promise<Status> {
  if (known && performance.now() - known.since < STATUS_LASTS_MS) return known.status;
  const down = { up: false, reason: "the page's own server does not answer; run `make status`", variant: null, address: null };
  const found = await readStatus().catch(() => ({ serving: down, edge: down }));
  known = { status: found, since: performance.now() };
  showPlace("serving", "Server", found.serving.up ? "up" : "down", "");
  showPlace("edge", "Device", found.edge.up ? "up" : "down", found.edge.variant ?? "");
  return found;
}

function showPlace(id: string, name: string, state: string, detail: string): void {
  const item = element("li", { id: `place-${id}`, "data-state": state });
  item.append(element("b", {}, name), ` ${state === "up" ? "●" : "○"} ${state}`, detail ? element("small", {}, ` ${detail}`) : "");
  const old = document.querySelector(`#place-${id}`);
  if (old) old.replaceWith(item);
  else places.append(item);
}

function showBrowser(failure = ""): void {
  const described = [...running.values()].map(({ facts, name }) => `${facts.version} ${name.split("-")[1]}: ${shortened(facts.accelerator)}`);
  if (described.length) showPlace("browser", "Browser", "up", described.length < 3 ? described.join("; ") : `${described.length} runtimes`);
  else showPlace("browser", "Browser", failure ? "down" : "off", failure);
}

async function start(name: RuntimeName): Promise<void> {
  if (running.has(name) || !boxes.get(name)!.checked) return;
  try {
    const runtime = await startRuntime(name);
    if (!boxes.get(name)!.checked || running.has(name)) return runtime.stop(); // changed meanwhile
    running.set(name, runtime);
    showBrowser();
  } catch (error) {
    showBrowser(sentence(error));
    fault(name, "runtime", sentence(error));
  }
}

function end(name: RuntimeName): void {
  running.get(name)?.stop();
  running.delete(name);
}

async function clear(name: RuntimeName): Promise<void> {
  for (const panel of panels) panel.drop(name);
  showBrowser();
}

/** A runtime that is not to be used is marked. Where nobody has chosen, the next one is tried: in its place, or beside it for that model. */
function fault(name: RuntimeName, whose: Fault, reason: string): void {
  if (whose === "runtime") {
    const label = boxes.get(name)!.closest("label")!;
    label.dataset.state = "refused";
    label.title = reason;
  }
  if (whose === "model" && !running.has(name)) return; // it was ended meanwhile
  const known = `${name}: ${whose}`;
  if (faulty.has(known)) return; // for another model, or another sample
  faulty.add(known);
  const next = untried.shift();
  if (!next) return;
  if (whose === "runtime") turn(name, false);
  turn(next, true);
}

function turn(name: RuntimeName, on: boolean): void {
  boxes.get(name)!.checked = on;
  if (on) forgive(name);
  else end(name); // at once, whatever it is doing; then what is left of it
  enqueue(() => (on ? start(name) : clear(name)));
  for (const panel of panels) ask(panel);
  enqueue(keep);
}

const keep = () => keepForOffline([...running.values()], () => document.querySelector("#kept")!.removeAttribute("hidden"));

/** Switched on again, a runtime is tried like a new one. */
function forgive(name: RuntimeName): void {
  for (const whose of ["model", "runtime"]) faulty.delete(`${name}: ${whose}`);
  const label = boxes.get(name)!.closest("label")!;
  delete label.dataset.state;
  label.removeAttribute("title");
}

function addSwitch(name: RuntimeName): void {
  const box = element("input", { type: "checkbox", name: "runtime", value: name });
  box.addEventListener("change", () => {
    untried = [];
    const chosen = RUNTIMES.filter((runtime) => boxes.get(runtime)!.checked);
    history.replaceState(null, "", `?runtime=${chosen.join() || NONE}`);
    turn(name, box.checked);
  });
  boxes.set(name, box);
  switches.append(element("label", { "data-runtime": name }, box, name));
}

function ask(panel: Panel): void {
  panel.announceRun();
  enqueue(async () => panel.run(running.values(), await status()));
}

async function open(): Promise<void> {
  const wanted = new URLSearchParams(location.search).get("runtime")?.split(",") ?? [];
  const chosen = RUNTIMES.filter((name) => wanted.includes(name));
  const byDefault = !chosen.length && !wanted.includes(NONE);
  const order = inOrder(RUNTIMES);
  if (byDefault) untried = order.slice(1);
  for (const name of RUNTIMES) addSwitch(name);
  showPlace("browser", "Browser", "starting", "");
  const first = byDefault ? order.slice(0, 1) : chosen;
  for (const name of first) boxes.get(name)!.checked = true;
  const starting = Promise.all(first.map(start));
  const { models, report } = await listModels();
  if (report) document.querySelector("#report")!.removeAttribute("hidden");
  panels = models.map((entry) => new Panel(entry, ask, (name, whose, reason) => fault(name, whose, `${entry.model}: ${reason}`)));
  main.replaceChildren(...panels.map((panel) => panel.element));
  if (models.length) main.append(new Versions(models).element);
  if (!panels.length) main.append(element("p", { class: "notice" }, "No models yet: run `make deploy-all`."));
  const ready = await Promise.all(panels.map((panel) => panel.prepare()));
  panels = panels.filter((_, place) => ready[place]);
  for (const panel of panels) ask(panel); // the back ends answer while the runtime starts
  enqueue(async () => void (await starting));
  for (const panel of panels) ask(panel);
  enqueue(async () => void (await Promise.all(panels.map((panel) => panel.listLabels()))));
  enqueue(keep);
}

enqueue(open);
