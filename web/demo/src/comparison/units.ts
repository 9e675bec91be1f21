// Figures on the charts and in the table.

/** A time from microseconds to seconds, to three digits: "82 µs", "1.24 ms", "2.1 s". */
export function duration(milliseconds: number): string {
  if (milliseconds < 1) return `${rounded(milliseconds * 1e3)} µs`;
  return milliseconds < 1e3 ? `${rounded(milliseconds)} ms` : `${rounded(milliseconds / 1e3)} s`;
}

const rounded = (value: number) => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

/** Two significant digits, always in the same form, so that a column of them is aligned. */
export function scientific(value: number): string {
  return value === 0 ? "0" : value.toExponential(1).replace("e-", "e−").replace("e+", "e");
}

/** Of numbers in ascending order, with the same interpolation as NumPy's. */
export function percentile(sorted: number[], percent: number): number {
  const place = ((sorted.length - 1) * percent) / 100;
  const [low, high] = [sorted[Math.floor(place)]!, sorted[Math.ceil(place)]!];
  return low + (high - low) * (place % 1);
}
