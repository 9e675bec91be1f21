// Numbers as the page shows them: aligned, with their unit.

/** Milliseconds, without their unit. */
export function milliseconds(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
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
  if (count < 1e3) return `${count} B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(count < 1e4 ? 1 : 0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The name of a piece of hardware, or of the software in its place, as short as a column is. */
export const shortened = (name: string) => (/SwiftShader/i.test(name) ? "SwiftShader (software)" : name.slice(0, 40));
