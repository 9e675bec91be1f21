// What all charts share: how Plot draws under the page's policy, and logarithmic axes.

import * as Plot from "@observablehq/plot";

export const FONT = 12; // px
export const LETTER = 6.4; // px, the width of a letter at that size

/** Plot puts a style element into its drawing, which the policy forbids: its rules stand in comparison.css. */
export function draw(label: string, options: Plot.PlotOptions): Element {
  const drawn = Plot.plot({ ...options, className: "plot", ariaLabel: label });
  drawn.querySelector("style")?.remove();
  for (const group of drawn.querySelectorAll("[aria-label]")) group.removeAttribute("aria-label"); // allowed for none without a role
  drawn.setAttribute("role", "img");
  return drawn;
}

export const extent = (values: number[]): [number, number] => (values.length ? [Math.min(...values), Math.max(...values)] : [1, 10]);

/** Powers of ten between the values, at most `most` of them; steps of 1, 2 and 5 where that would be one or none. */
export function ticks(values: number[], most: number): number[] {
  const [low, high] = extent(values);
  const powers: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) powers.push(power);
  const within = (value: number) => value >= 0.999 * low && value <= 1.001 * high;
  const decades = powers.map((power) => 10 ** power).filter(within);
  const all = decades.length > 1 ? decades : powers.flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power)).filter(within);
  return all.filter((_, place) => place % Math.ceil(all.length / most) === 0);
}
