// The controls above the charts.

import { element } from "../elements";
import type { Row } from "./summary";
import { FILTERS, valuesOf, type Filter, type View } from "./view";

const LABELS: Record<Filter, string> = {
  model: "model",
  kind: "kind of target",
  target: "target’s name",
  verdict: "verdict",
  version: "version",
};

export class Filters {
  private readonly controls = new Map<Filter, HTMLInputElement | HTMLSelectElement>();
  private readonly count = element("output");
  private typing = false;

  /** `changed` is told whether the change belongs to the one before: a name is typed letter by letter. */
  constructor(place: HTMLElement, changed: (change: Partial<View>, goesOn: boolean) => void) {
    for (const name of FILTERS) {
      const control =
        name === "target"
          ? element("input", { type: "search", autocomplete: "off", spellcheck: "false", placeholder: "a part of it" })
          : element("select");
      control.addEventListener("input", () => {
        const goesOn = this.typing && name === "target";
        this.typing = name === "target";
        changed({ [name]: control.value }, goesOn);
      });
      control.addEventListener("blur", () => (this.typing = false));
      this.controls.set(name, control);
      control.id = `filter-${name}`;
      place.append(element("div", {}, element("label", { for: control.id }, LABELS[name]), control));
    }
    const all = element("button", { type: "button" }, "Show all");
    all.addEventListener("click", () => changed(Object.fromEntries(FILTERS.map((name) => [name, ""])), false));
    place.append(all, this.count);
  }

  show(view: View, rows: Row[], shown: number): void {
    for (const [name, control] of this.controls) {
      if (control instanceof HTMLSelectElement && name !== "target") {
        const found = new Set(rows.flatMap((row) => valuesOf(row, name)));
        if (view[name]) found.add(view[name]); // a link may ask for what is not there
        const values = [...found];
        control.replaceChildren(element("option", { value: "" }, "all"), ...values.map((value) => element("option", { value }, value)));
      }
      if (control.value !== view[name]) control.value = view[name];
    }
    this.count.textContent = `${shown} of ${rows.length} rows`;
  }
}
