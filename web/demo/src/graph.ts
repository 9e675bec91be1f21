// A TF.js graph model, whatever the backend.

import { loadGraphModel, type GraphModel } from "@tensorflow/tfjs-converter";
import * as tf from "@tensorflow/tfjs-core";

import type { LoadedModel, Tensors } from "./model";
import { countRows, cut, join } from "./rows";

/** From an address, or from what reads the model's files otherwise. */
export async function loadGraph(source: string | tf.io.IOHandler): Promise<LoadedModel> {
  if (typeof source !== "string") return new Graph(await loadGraphModel(source));
  const address = new URL(source, location.href);
  // The weights carry the hash that the model's own address has, so that a browser may keep them for ever too.
  const weightUrlConverter = async (file: string) => new URL(`${file}${address.search}`, address).href;
  return new Graph(await loadGraphModel(address.href, { weightUrlConverter }));
}

interface Port {
  name: string;
  node: string;
  dtype: tf.DataType;
}

class Graph implements LoadedModel {
  private readonly inputs: Port[];
  private readonly outputs: Port[];
  /** Rows of one execution: what the signature states, one where it leaves the batch free. */
  private readonly step: number;
  private needsAsync = false;

  constructor(private readonly graph: GraphModel) {
    const signature = graph.modelSignature as unknown as Signature;
    this.inputs = ports(signature.inputs);
    this.outputs = ports(signature.outputs);
    const stated = Object.values(signature.inputs)[0]?.tensorShape?.dim?.[0]?.size;
    this.step = Math.max(1, Number(stated ?? 1));
  }

  async predict(inputs: Tensors): Promise<Tensors> {
    const rows = countRows(inputs, this.step);
    const answers: tf.TypedArray[][] = this.outputs.map(() => []);
    let shapes: number[][] = [];
    for (let row = 0; row < rows; row += this.step) {
      const tensors = await this.execute(this.feeds(inputs, row));
      shapes = tensors.map((tensor) => tensor.shape);
      for (const [place, tensor] of tensors.entries()) answers[place]!.push(await tensor.data());
      tf.dispose(tensors);
    }
    return Object.fromEntries(this.outputs.map(({ name }, place) => [name, join(answers[place]!, shapes[place]!, rows)]));
  }

  dispose(): void {
    this.graph.dispose();
  }

  private feeds(inputs: Tensors, row: number): Record<string, tf.Tensor> {
    return Object.fromEntries(
      this.inputs.map(({ name, node, dtype }) => {
        const { values, shape } = cut(inputs, name, row, this.step);
        return [node, tf.tensor(values, shape, dtype)];
      }),
    );
  }

  private async execute(feeds: Record<string, tf.Tensor>): Promise<tf.Tensor[]> {
    const nodes = this.outputs.map((port) => port.node);
    try {
      if (!this.needsAsync) {
        try {
          return asList(tf.tidy(() => this.graph.execute(feeds, nodes)));
        } catch (error) {
          if (!String(error).includes("executeAsync")) throw error;
          this.needsAsync = true; // loops and conditions that depend on the data
        }
      }
      return asList(await this.graph.executeAsync(feeds, nodes));
    } finally {
      tf.dispose(feeds);
    }
  }
}

type Signature = { inputs: SignaturePorts; outputs: SignaturePorts };
type SignaturePorts = Record<string, { name: string; dtype: string; tensorShape?: { dim?: { size: string }[] } }>;

function ports(described: SignaturePorts): Port[] {
  return Object.entries(described).map(([name, info]) => ({ name, node: info.name, dtype: dtypeOf(info.dtype) }));
}

function dtypeOf(name: string): tf.DataType {
  if (name === "DT_BOOL") return "bool";
  return /^DT_U?INT\d+$/.test(name) ? "int32" : "float32";
}

function asList(result: tf.Tensor | tf.Tensor[]): tf.Tensor[] {
  return Array.isArray(result) ? result : [result];
}
