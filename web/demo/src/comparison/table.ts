// All figures of all rows that are shown, sorted by the column that was asked for.

import { element } from "../elements";
import { gain, isHere, SIGNS, worst, type Latency, type Row } from "./summary";
import { scientific } from "./units";
import type { View } from "./view";

interface Column {
  /** As in the address. */
  name: string;
  head: string;
  unit: string;
  value(row: Row): string | number | null;
  text?(value: number): string;
}

const time = (figure: keyof Latency, scale = 1) => (row: Row) => {
  const value = row.latency[0]?.[figure] ?? null;
  return value === null ? null : value / scale;
};
const signed = (value: number) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(4)}`;
const places = (digits: number) => (value: number) => value.toFixed(digits);

const COLUMNS: Column[] = [
  { name: "model", head: "model", unit: "", value: (row) => row.model },
  { name: "version", head: "version", unit: "", value: (row) => row.version },
  { name: "target", head: "target", unit: "", value: (row) => row.target },
  { name: "precision", head: "precision", unit: "", value: (row) => row.precision },
  { name: "verdict", head: "verdict", unit: "", value: (row) => row.verdict },
  { name: "error", head: "error", unit: "", value: (row) => worst(row, "would_pass_at"), text: scientific },
  { name: "tolerance", head: "allowed", unit: "", value: (row) => worst(row, "tolerance"), text: scientific },
  { name: "agreement", head: "agree", unit: "%", value: agreement, text: places(1) },
  { name: "metric", head: "metric", unit: "", value: (row) => row.metric?.value ?? null, text: places(4) },
  { name: "gain", head: "against Keras", unit: "", value: gain, text: signed },
  { name: "size", head: "size", unit: "kB", value: (row) => scaled(row.artifact_bytes, 1e3), text: places(1) },
  { name: "cold", head: "cold", unit: "s", value: time("cold_ms", 1e3), text: places(3) },
  { name: "first", head: "first", unit: "ms", value: time("first_ms"), text: places(1) },
  { name: "p50", head: "p50", unit: "ms", value: time("p50_ms"), text: places(3) },
  { name: "p95", head: "p95", unit: "ms", value: time("p95_ms"), text: places(3) },
  { name: "p99", head: "p99", unit: "ms", value: time("p99_ms"), text: places(3) },
  { name: "n", head: "n", unit: "", value: time("n") },
  { name: "remark", head: "remark", unit: "", value: (row) => [row.reason, row.next].filter(Boolean).join("; ") || null },
];
const NUMBERS = new Set(["version", ...COLUMNS.slice(COLUMNS.findIndex(({ name }) => name === "error"), -1).map(({ name }) => name)]);

function scaled(value: number | null, scale: number): number | null {
  return value === null ? null : value / scale;
}

/** Never rounded up to all of them. */
function agreement({ decision }: Row): number | null {
  const share = decision?.agreement ?? null;
  return share === null ? null : share === 1 ? 100 : Math.min(100 * share, 99.9);
}

export class Table {
  readonly element: HTMLElement;
  private readonly body = element("tbody");
  private readonly heads: HTMLElement[];
  private readonly none = element("p", { class: "notice", hidden: "" }, "No row is like that: choose “Show all”.");

  constructor(sort: (column: string) => void) {
    this.heads = COLUMNS.map(({ name, head, unit }) => {
      const button = element("button", { type: "button" }, head, unit ? element("small", {}, ` ${unit}`) : "");
      button.addEventListener("click", () => sort(name));
      return element("th", { scope: "col", "data-column": name, ...classOf(name) }, button);
    });
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...this.heads)), this.body);
    this.element = element("div", {}, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "all figures" }, table), this.none);
  }

  show(rows: Row[], view: View): void {
    for (const head of this.heads) {
      const isSorted = head.dataset.column === view.sort;
      head.setAttribute("aria-sort", isSorted ? (view.descending ? "descending" : "ascending") : "none");
    }
    this.body.replaceChildren(...sorted(rows, view).map(line));
    this.none.hidden = rows.length > 0;
  }
}

/** Rows that lack the figure come last, whatever the direction. */
function sorted(rows: Row[], view: View): Row[] {
  const column = COLUMNS.find(({ name }) => name === view.sort);
  if (!column) return rows;
  const direction = view.descending ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [column.value(one), column.value(other)];
    if (a === null || b === null) return Number(a === null) - Number(b === null);
    return direction * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en"));
  });
}

function line(row: Row): HTMLElement {
  const cells = COLUMNS.map(({ name, value, text }) => {
    const found = value(row);
    const shown = typeof found === "number" ? (text ?? String)(found) : (found ?? "–");
    if (name === "target") return element("th", { scope: "row", "data-column": name }, shown);
    const children = name === "verdict" ? [element("b", { "aria-hidden": "true" }, SIGNS[row.verdict]), ` ${shown}`] : [shown];
    if (name === "metric" && row.metric) children.unshift(element("small", {}, `${row.metric.name} `));
    return element("td", { "data-column": name, ...classOf(name) }, ...children);
  });
  return element("tr", { "data-verdict": row.verdict, ...(isHere(row) ? { class: "here" } : {}) }, ...cells);
}

const classOf = (column: string): Record<string, string> => (NUMBERS.has(column) ? { class: "number" } : {});
