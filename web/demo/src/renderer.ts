// Which graphics hardware, or software in its place, answers for WebGL and for WebGPU.

export async function rendererName(): Promise<string> {
  const context = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!context) return "unknown";
  const info = context.getExtension("WEBGL_debug_renderer_info");
  const name = String(context.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : context.RENDERER));
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return name;
}

/** Which adapter answers for WebGPU. */
export async function adapterName(): Promise<string> {
  const adapter = await (navigator as { gpu?: Gpu }).gpu?.requestAdapter();
  const { vendor = "", architecture = "", description = "" } = adapter?.info ?? {};
  return description || [vendor, architecture].filter(Boolean).join(" ") || "unknown";
}

interface Gpu {
  requestAdapter(): Promise<{ info?: { vendor?: string; architecture?: string; description?: string } } | null>;
}
