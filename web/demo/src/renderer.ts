// Which graphics hardware, or software in its place, answers for WebGL.

export function rendererName(): string {
  const context = document.createElement("canvas").getContext("webgl2");
  if (!context) return "unknown";
  const info = context.getExtension("WEBGL_debug_renderer_info");
  const name = String(context.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : context.RENDERER));
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return name;
}
