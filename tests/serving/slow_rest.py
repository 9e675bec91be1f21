"""REST's connections (http1.py) alone, in the server's environment: answers are as slow and as large as the path says.

``python slow_rest.py KEEP_ALIVE_SECONDS`` prints its port.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from model_server import http1

LARGE = 16 << 20  # bytes: more than the buffers between two sockets take


async def application(scope: dict[str, Any], body: bytes) -> http1.Answer:
    path = scope["raw_path"]
    if path == b"/slow":
        await asyncio.sleep(0)
        await asyncio.sleep(0.1)
    if path == b"/connections":
        return 200, [], b"%d" % len(server.connections)
    return 200, [], b"x" * LARGE if path == b"/large" else b"%s %s" % (path, body)


if __name__ == "__main__":
    http1.KEEP_ALIVE = float(sys.argv[1])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = http1.Http1Server(application, [listener], idle=5.0, max_bytes=1 << 20)
    server.start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
