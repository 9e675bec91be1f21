// Three charts of one form: a column for each model, a line for each target, and all of them on one logarithmic scale.

import * as Plot from "@observablehq/plot";


import { draw, extent, FONT, LETTER, ticks } from "./drawing";
import { isHere, SIGNS, worst, type Latency, type Row } from "./summary";
import { duration, scientific } from "./units";

type Figure = (row: Row) => number | null;

/** Where a row's marks belong; `tick` is the inset that gives a tick this length. */
interface Place {
  at: { fx: (row: Row) => string; y: (row: Row) => string; dy: number };
  tick(length: number): number;
}

interface Chart {
  label: string;
  /** What the scale must hold. */
  figures: Figure[];
  /** What is written beside a line. */
  said: Figure;
  unit(value: number): string;
  marks(rows: Row[], place: Place): Plot.Markish[];
}

const COLUMN = 250; // px, the least that a model needs
const SAID = 72; // px, room for "✓ 1.24 ms"
const LEAST_ERROR = 1e-9;
const INK = "var(--ink)";
const ACCENT = "var(--accent)";

const timed = (name: keyof Latency) => (row: Row) => row.latency[0]?.[name] || null; // a logarithm has no zero
const [cold, first] = [timed("cold_ms"), timed("first_ms")];
const [p50, p95, p99] = [timed("p50_ms"), timed("p95_ms"), timed("p99_ms")];
const error = (row: Row) => worst(row, "would_pass_at");
const shownError = (row: Row) => (error(row) === null ? null : Math.max(error(row)!, LEAST_ERROR));
const allowed = (row: Row) => worst(row, "tolerance") || null;
const stagesOf = (row: Row) => [cold(row), first(row), p50(row)].filter((value) => value !== null);

export const LATENCY: Chart = {
  label: "latency per target from p50 to p99",
  figures: [p50, p99],
  said: p50,
  unit: duration,
  marks: (rows, { at, tick }) => [
    Plot.ruleY(rows, { ...at, x1: p50, x2: p99, stroke: INK, strokeOpacity: 0.6 }),
    Plot.tickX(rows, { ...at, x: p95, stroke: INK, inset: tick(12) }),
    Plot.tickX(rows, { ...at, x: p99, stroke: INK, inset: tick(6) }),
    Plot.dot(rows, { ...at, x: p50, ...looks }),
  ],
};

export const ERROR: Chart = {
  label: "error per target with its tolerance",
  figures: [shownError, allowed],
  said: error,
  unit: (value) => scientific(value).replace(".0e", "e"),
  marks: (rows, { at, tick }) => [
    Plot.tickX(rows, { ...at, x: allowed, stroke: INK, strokeWidth: 2.5, inset: tick(14) }),
    Plot.dot(rows, { ...at, x: shownError, ...looks }),
  ],
};

export const STAGES: Chart = {
  label: "cold start, first answer and steady requests per target",
  figures: [cold, first, p50],
  said: cold,
  unit: duration,
  marks: (rows, { at }) => [
    Plot.ruleY(rows.filter((row) => stagesOf(row).length), { ...at, x1: (row: Row) => extent(stagesOf(row))[0], x2: (row: Row) => extent(stagesOf(row))[1], stroke: INK, strokeOpacity: 0.35 }),
    Plot.dot(rows, { ...at, x: cold, symbol: "square", r: 3.4, fill: INK }),
    Plot.dot(rows, { ...at, x: first, symbol: "triangle", r: 3.2, fill: INK }),
    Plot.dot(rows, { ...at, x: p50, r: 3.6, fill: ACCENT }),
  ],
};

const looks = {
  symbol: (row: Row) => (row.verdict === "fail" ? "times" : isHere(row) ? "diamond" : "circle"),
  fill: ({ verdict }: Row) => (verdict === "pass" ? ACCENT : "var(--sheet)"),
  stroke: ({ verdict }: Row) => (verdict === "fail" ? "var(--alarm)" : ACCENT),
  strokeWidth: 1.6,
  r: 3.8,
};

/** As many drawings below each other as give every model its width. On a phone a target's name stands above its line. */
export function drawLines({ label, figures, said, unit, marks }: Chart, rows: Row[], width: number): Element[] {
  const names = nameTargets(rows);
  const nameOf = (row: Row) => names.get(row)!;
  const isNarrow = width < 2 * COLUMN;
  const left = isNarrow ? 2 : LETTER * Math.max(...[...names.values()].map(({ length }) => length)) + 12;
  const columns = Math.max(1, Math.floor((width - left) / COLUMN));
  const models = [...new Set(rows.map(({ model }) => model))];
  const values = figures.flatMap((figure) => rows.map(figure)).filter((value) => value !== null);
  const [band, lower] = isNarrow ? [34, 8] : [20, 0]; // px
  const at = { fx: ({ model }: Row) => model, y: nameOf, dy: lower };
  return groups(models, columns).map((group) => {
    const drawn = rows.filter(({ model }) => group.includes(model));
    const targets = [...new Set(drawn.map(nameOf))];
    return draw(`${label}: ${group.join(", ")}`, {
      width: left + ((width - left) * group.length) / Math.min(columns, models.length),
      height: targets.length * band + 58,
      marginLeft: left,
      marginRight: 2,
      marginTop: 30,
      marginBottom: 28,
      x: { type: "log", domain: extent(values), insetLeft: 8, insetRight: SAID },
      y: { type: "band", domain: targets, padding: 0, axis: null },
      fx: { domain: group, padding: 0.05, label: null },
      marks: [
        Plot.axisFx({ fontSize: FONT + 2, fontWeight: 600 }),
        Plot.gridX(ticks(values, 4), { stroke: "var(--rule)", strokeOpacity: 1 }),
        Plot.axisX(ticks(values, 4), { tickFormat: unit, tickSize: 0, label: null, fontSize: FONT, fill: "var(--faint)" }),
        isNarrow
          ? Plot.text(drawn, { ...at, text: nameOf, frameAnchor: "left", dy: lower - 15, textAnchor: "start", fontSize: FONT })
          : Plot.axisY({ tickSize: 0, label: null, fontSize: FONT }),
        Plot.ruleY(drawn, { ...at, stroke: "var(--rule)" }),
        ...marks(drawn, { at, tick: (length) => (band - length) / 2 }),
        Plot.text(drawn, { ...at, text: (row: Row) => sign(row, said(row), unit), fill: colour, stroke: "var(--sheet)", strokeWidth: 5, frameAnchor: "right", textAnchor: "end", fontSize: FONT, title: tell }),
      ],
    });
  });
}

const colour = ({ verdict }: Row) => (verdict === "fail" ? "var(--alarm)" : INK);

function sign({ verdict }: Row, value: number | null, unit: (value: number) => string): string {
  return `${SIGNS[verdict]} ${value === null ? (verdict === "pass" ? "–" : verdict) : unit(value)}`;
}

const tell = (row: Row) => `${row.model} ${row.version} on ${row.target}: ${[row.verdict, row.reason, row.next].filter(Boolean).join("; ")}`;

/** An older version of a model stands beside its newest one. */
function nameTargets(rows: Row[]): Map<Row, string> {
  const newest = new Map<string, number>();
  for (const { model, version } of rows) newest.set(model, Math.max(version, newest.get(model) ?? 0));
  return new Map(rows.map((row) => [row, row.version === newest.get(row.model) ? row.target : `${row.target} v${row.version}`]));
}

function groups<T>(values: T[], length: number): T[][] {
  return Array.from({ length: Math.ceil(values.length / length) }, (_, place) => values.slice(place * length, (place + 1) * length));
}
