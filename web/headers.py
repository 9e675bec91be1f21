"""What every answer that carries the page says to the browser."""

from __future__ import annotations

CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",  # WebAssembly; no eval of text
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

# TF.js' threads load their code from blob: addresses that TF.js makes itself. The policy of the one worker that starts
# them allows it; the page's does not.
THREADS_POLICY = CONTENT_POLICY.replace("script-src 'self'", "script-src 'self' blob:")
THREADS_WORKER = "tfjs-wasm-threads-"  # how the name of its file begins

# Cross-origin isolation: without it the page's clock is coarse (100 µs) and memory cannot be shared between threads.
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def headers_of(name: str) -> dict[str, str]:
    """What goes with the file of that name."""
    if name.startswith(THREADS_WORKER):
        return {**HEADERS, "Content-Security-Policy": THREADS_POLICY}
    return HEADERS


# Python's table of types depends on the system's; these are what the page consists of.
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".bin": "application/octet-stream",
    ".tflite": "application/octet-stream",
    ".wasm": "application/wasm",
    ".csv": "text/csv; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}

# The report is one file that also works opened from the disk: its style stands inside it, and in its charts' own files.
REPORT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
