"""The real page for the tests: web/app.py in its own environment, the services behind it, and a Chromium to look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from compare.browser import Browser
from compare.own_services import own_services
from models.artifacts import artifacts_root
from serving.publish import publish_all
from web.local import running_app
from web.screenshot import ANSWERED

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Page

WAIT_MS = 60_000

StartApp = Callable[..., str]


@pytest.fixture
def start_app() -> Iterator[StartApp]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(running_app(**options))


@pytest.fixture(scope="package")
def page_address() -> Iterator[str]:
    """The page over the built artefacts, with a model server and an edge service of its own."""
    publish_all()
    root = artifacts_root()
    with own_services(root) as unwell:
        assert not unwell, unwell
        rest, edge = os.environ["REST_PORT"], os.environ["EDGE_PORT"]
        with running_app(rest=f"http://127.0.0.1:{rest}", edge=f"http://127.0.0.1:{edge}", artifacts=root) as address:
            yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    running = Browser()
    yield running
    running.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.context(width=1400, height=900, scheme="light", scale=1) as opened:
        yield opened


@pytest.fixture
def errors() -> list[str]:
    return []


@pytest.fixture
def open_page(context: BrowserContext, errors: list[str]) -> Callable[[str], Page]:
    def visit(address: str) -> Page:
        page = context.new_page()
        origin = address.partition("/?")[0]
        page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on(
            "request",
            lambda r: None if r.url.removeprefix("blob:").startswith(origin) else errors.append(f"asked {r.url}"),
        )
        page.goto(address)
        page.wait_for_function(ANSWERED, timeout=WAIT_MS)
        return page

    return visit


@pytest.fixture
def back_end(tmp_path: Path) -> Iterator[Callable[[bytes, float], str]]:
    """A service that answers everything with given bytes after given seconds: how a back end misbehaves."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    servers: list[ThreadingHTTPServer] = []
    release = threading.Event()

    def start(body: bytes, delay: float = 0) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if delay:
                    release.wait(delay)
                with contextlib.suppress(ConnectionError):
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    release.set()
    for server in servers:
        server.shutdown()
        server.server_close()
