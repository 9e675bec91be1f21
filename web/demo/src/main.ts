// The page: the head with its switch of runtimes and the state of the places, then a panel for every model that is listed.

import "./style.css";
import { listModels, readStatus, type BackEnd, type Place } from "./catalogue";
import { element } from "./elements";
import { keepForOffline } from "./offline";
import { Panel } from "./panel";
import { RUNTIMES, sentence, startRuntime, type Runtime, type RuntimeName } from "./runtime";
import { Versions } from "./versions";

const places = document.querySelector<HTMLElement>("#places")!;
const switches = document.querySelector<HTMLElement>("#runtimes")!;
const main = document.querySelector<HTMLElement>("main")!;
let panels: Panel[] = [];
let runtime: Runtime | undefined; // what answers in this browser
let untried: RuntimeName[] = []; // what may take its place; nothing once somebody has chosen
let work: Promise<void> = Promise.resolve(); // one thing at a time: timings must not overlap

function enqueue(task: () => Promise<void>): void {
  work = work.then(task).catch((error: unknown) => {
    main.prepend(element("p", { class: "notice", role: "alert" }, sentence(error)));
  });
}

async function status(): Promise<Record<BackEnd, Place>> {
  const down = { up: false, reason: "the page's own server does not answer; run `make status`", variant: null };
  const found = await readStatus().catch(() => ({ serving: down, edge: down }));
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

async function start(name: RuntimeName): Promise<void> {
  for (const panel of panels) panel.unload();
  runtime = undefined;
  document.querySelector<HTMLInputElement>(`input[value="${name}"]`)!.checked = true;
  try {
    runtime = await startRuntime(name);
    const { version, accelerator } = runtime.facts;
    showPlace("browser", "Browser", "up", `${version} ${name.split("-")[1]}: ${shortened(accelerator)}`);
  } catch (error) {
    showPlace("browser", "Browser", "down", sentence(error));
    refuse(name, sentence(error));
  }
}

/** Mark what does not work here; where nobody has chosen it, the next one is tried. */
function refuse(name: RuntimeName, reason: string): void {
  const label = document.querySelector<HTMLElement>(`label[data-runtime="${name}"]`)!;
  if (label.dataset.state === "refused") return; // for another model
  label.dataset.state = "refused";
  label.title = reason;
  const next = untried.shift();
  if (next) use(next);
}

const shortened = (text: string) => (/SwiftShader/i.test(text) ? "SwiftShader (software)" : text.slice(0, 60));

function addSwitch(name: RuntimeName): void {
  const radio = element("input", { type: "radio", name: "runtime", value: name });
  radio.addEventListener("change", () => {
    untried = [];
    history.replaceState(null, "", `?runtime=${name}`);
    use(name);
  });
  switches.append(element("label", { "data-runtime": name }, radio, name));
}

function use(name: RuntimeName): void {
  enqueue(() => start(name));
  for (const panel of panels) ask(panel);
}

function ask(panel: Panel): void {
  panel.announceRun();
  enqueue(async () => panel.run(runtime, await status()));
}

async function open(): Promise<void> {
  const wanted = new URLSearchParams(location.search).get("runtime");
  const chosen = RUNTIMES.find((name) => name === wanted);
  if (!chosen) untried = RUNTIMES.slice(1);
  for (const name of RUNTIMES) addSwitch(name);
  showPlace("browser", "Browser", "starting", "");
  const [{ models, report }] = await Promise.all([listModels(), start(chosen ?? RUNTIMES[0])]);
  if (report) document.querySelector("#report")!.removeAttribute("hidden");
  panels = models.map((entry) => new Panel(entry, ask, (reason) => runtime && refuse(runtime.name, `${entry.model}: ${reason}`)));
  main.replaceChildren(...panels.map((panel) => panel.element));
  if (models.length) main.append(new Versions(models).element);
  if (!panels.length) main.append(element("p", { class: "notice" }, "No models yet: run `make deploy-all`."));
  const ready = await Promise.all(panels.map((panel) => panel.prepare()));
  panels = panels.filter((_, place) => ready[place]);
  for (const panel of panels) ask(panel);
  enqueue(keepForOffline);
}

enqueue(open);
