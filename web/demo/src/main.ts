// The page: the head with its backend switch and the state of the places, then a panel for every model that is listed.

import "./style.css";
import { listModels, readStatus, type BackEnd, type Place } from "./catalogue";
import { element } from "./elements";
import { Panel } from "./panel";
import { BACKENDS, sentence, useBackend, type Backend } from "./runtime";

const places = document.querySelector<HTMLElement>("#places")!;
const switches = document.querySelector<HTMLElement>("#backends")!;
const main = document.querySelector<HTMLElement>("main")!;
let panels: Panel[] = [];
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

async function start(backend: Backend): Promise<void> {
  for (const panel of panels) panel.unload();
  try {
    const facts = await useBackend(backend);
    showPlace("browser", "Browser", "up", `TF.js ${facts.version} ${facts.backend}: ${shortened(facts.accelerator)}`);
  } catch (error) {
    showPlace("browser", "Browser", "down", sentence(error));
  }
}

const shortened = (text: string) => (/SwiftShader/.test(text) ? "SwiftShader (software)" : text.slice(0, 60));

function addSwitch(backend: Backend, chosen: Backend): void {
  const radio = element("input", { type: "radio", name: "backend", value: backend });
  radio.checked = backend === chosen;
  radio.addEventListener("change", () => {
    history.replaceState(null, "", `?backend=${backend}`);
    enqueue(() => start(backend));
    for (const panel of panels) ask(panel);
  });
  switches.append(element("label", {}, radio, backend));
}

function ask(panel: Panel): void {
  panel.announceRun();
  enqueue(async () => panel.run(await status()));
}

async function open(): Promise<void> {
  const wanted = new URLSearchParams(location.search).get("backend");
  const chosen = BACKENDS.find((backend) => backend === wanted) ?? BACKENDS[0];
  for (const backend of BACKENDS) addSwitch(backend, chosen);
  showPlace("browser", "Browser", "starting", "");
  const [{ models, report }] = await Promise.all([listModels(), start(chosen)]);
  if (report) document.querySelector("#report")!.removeAttribute("hidden");
  panels = models.map((entry) => new Panel(entry, ask));
  main.replaceChildren(...panels.map((panel) => panel.element));
  if (!panels.length) main.append(element("p", { class: "notice" }, "No models yet: run `make deploy-all`."));
  const ready = await Promise.all(panels.map((panel) => panel.prepare()));
  panels = panels.filter((_, place) => ready[place]);
  for (const panel of panels) ask(panel);
}

enqueue(open);
