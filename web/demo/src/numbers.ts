// Numbers as the page shows them: aligned, with their unit.

export function milliseconds(value: number): string {
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
}

export function quantity(value: number, unit: string): string {
  const digits = Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 2 : 4;
  return `${Number.isFinite(value) ? value.toFixed(digits) : String(value)}${unit ? ` ${unit}` : ""}`;
}

/** A difference: two significant digits, however small. */
export function difference(value: number): string {
  if (value === 0) return "0";
  return value >= 0.001 ? value.toPrecision(2) : value.toExponential(0).replace("e-", "e−");
}

export function bytes(count: number): string {
  return count < 1e6 ? `${(count / 1e3).toFixed(0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}
