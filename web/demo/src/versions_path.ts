// How a back end is asked for one version of a model: by its number, or by the label that points to it.

/** A label is known to the server alone: the device has none. */
export type Choice = { version: number } | { label: string };

/** TF Serving's REST form, below the address of the back end. */
export function serverPath(model: string, choice: Choice): string {
  const which = "version" in choice ? `versions/${choice.version}` : `labels/${encodeURIComponent(choice.label)}`;
  return `/v1/models/${encodeURIComponent(model)}/${which}`;
}
