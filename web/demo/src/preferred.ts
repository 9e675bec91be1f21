// Which runtime is the fastest on this machine: what the comparison page measured here, kept by this browser.

import type { RuntimeName } from "./runtime";

const KEY = "fastest-first";

/** Keep the order, the fastest first, of the runtimes that were right for every model. */
export function remember(names: RuntimeName[]): void {
  localStorage.setItem(KEY, names.join());
}

/** Those that were measured here first, as they came out; the others as they stand. */
export function inOrder(names: readonly RuntimeName[]): RuntimeName[] {
  const measured = (localStorage.getItem(KEY) ?? "").split(",");
  const known = names.filter((name) => measured.includes(name)).sort((a, b) => measured.indexOf(a) - measured.indexOf(b));
  return [...known, ...names.filter((name) => !measured.includes(name))];
}
