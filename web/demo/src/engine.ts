// The worker's side of a runtime: a library, the models that it has loaded, and calls from the page.

import { expose } from "comlink";

import { predictTimed, timeCalls, type Facts, type Library, type LoadedModel, type Prediction, type Tensors } from "./model";

export interface Engine {
  start(): Promise<Facts>;
  /** The number by which the model goes from then on. */
  load(url: string): Promise<number>;
  predict(model: number, inputs: Tensors): Promise<Prediction>;
  time(model: number, inputs: Tensors, calls: number): Promise<number[]>;
  dispose(model: number): Promise<void>;
  /** The addresses of all that this worker consists of and has fetched. */
  fetched(): Promise<string[]>;
}

export function serve(start: () => Promise<Library>): void {
  let library: Library | undefined;
  const models: (LoadedModel | undefined)[] = [];
  const engine: Engine = {
    async start() {
      library = await start();
      return library.facts;
    },
    async load(url) {
      return models.push(await library!.load(url)) - 1;
    },
    predict: (model, inputs) => predictTimed(models[model]!, inputs),
    time: (model, inputs, calls) => timeCalls(models[model]!, inputs, calls),
    async dispose(model) {
      models[model]?.dispose();
      models[model] = undefined;
    },
    fetched: async () => [location.href, ...performance.getEntriesByType("resource").map(({ name }) => name)],
  };
  expose(engine);
}
