// What is shown, as the question of this page's address has it: a view is shared by its link.

import { kindsOf, type Row } from "./summary";

/** "" shows everything; `target` is a part of the name. */
export const FILTERS = ["model", "kind", "target", "verdict", "version"] as const;
export type Filter = (typeof FILTERS)[number];

export interface View extends Record<Filter, string> {
  /** A column of the table; "" is the order of the report. */
  sort: string;
  descending: boolean;
}

export function readView(question: string): View {
  const given = new URLSearchParams(question);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, given.get(name) ?? ""])) as Record<Filter, string>;
  return { ...filters, sort: given.get("sort") ?? "", descending: given.get("order") === "descending" };
}

export function questionOf(view: View): string {
  const given = new URLSearchParams(FILTERS.filter((name) => view[name]).map((name) => [name, view[name]]));
  if (view.sort) given.set("sort", view.sort);
  if (view.sort && view.descending) given.set("order", "descending");
  return given.size ? `?${given}` : "";
}

export function isShown(row: Row, view: View): boolean {
  return FILTERS.every((name) => !view[name] || (name === "target" ? isNamed(row.target, view.target) : valuesOf(row, name).includes(view[name])));
}

export const isNamed = (target: string, part: string) => target.toLowerCase().includes(part.toLowerCase().trim());

export function valuesOf(row: Row, filter: Exclude<Filter, "target">): string[] {
  return filter === "kind" ? kindsOf(row) : [String(row[filter])];
}
