"""The real page for the tests: web/app.py in its own environment, the services behind it, and a Chromium to look."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from compare.browser import acquire, release
from compare.own_services import own_services
from models.artifacts import artifacts_root
from web.local import running_app
from web.screenshot import ANSWERED

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Page

    from compare.browser import Browser

WAIT_MS = 60_000
SMALL = ("cnn", "mlp")

StartApp = Callable[..., str]


@pytest.fixture
def start_app() -> Iterator[StartApp]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(running_app(**options))


@pytest.fixture(scope="package")
def services() -> Iterator[dict[str, str]]:
    """Where a model server and an edge service of the tests' own answer, over the built artefacts."""
    with own_services(artifacts_root()) as unwell:
        assert not unwell, unwell
        yield {name: f"http://127.0.0.1:{os.environ[f'{name.upper()}_PORT']}" for name in ("rest", "edge")}


@pytest.fixture(scope="package")
def page_address(services: dict[str, str]) -> Iterator[str]:
    """The page over the built artefacts, with a model server and an edge service of its own."""
    with running_app(**services, artifacts=artifacts_root()) as address:
        yield address


@pytest.fixture(scope="package")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artefacts of two models alone, the quickest to load: what is no matter of all models is tested on these."""
    root = tmp_path_factory.mktemp("small")
    for model in SMALL:
        for room in ("web", "lite"):
            shutil.copytree(artifacts_root() / room / model, root / room / model)
    return root


@pytest.fixture(scope="package")
def small_address(services: dict[str, str], small_root: Path) -> Iterator[str]:
    """The page with these two models, and the same services."""
    with running_app(**services, artifacts=small_root) as address:
        yield address


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The one that the targets share too: Playwright allows no second one in a process."""
    yield acquire(browser)
    release(browser)


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
        listen(page, address, errors)
        page.goto(address)
        page.wait_for_function(ANSWERED, timeout=WAIT_MS)
        return page

    return visit


def listen(page: Page, address: str, errors: list[str]) -> Callable[[], None]:
    """From now on what goes wrong in ``page``, and what it asks elsewhere, is in ``errors``; call the result to end that."""
    origin = address.partition("/?")[0]
    listeners: dict[Any, Callable[[Any], None]] = {
        "console": lambda m: errors.append(m.text) if m.type in ("error", "warning") else None,
        "pageerror": lambda e: errors.append(str(e)),
        "request": lambda r: (
            None if r.url.removeprefix("blob:").startswith(origin) else errors.append(f"asked {r.url}")
        ),
    }
    for event, listener in listeners.items():
        page.on(event, listener)

    def end() -> None:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)

    return end


@pytest.fixture(scope="package")
def answered(browser: Browser, page_address: str) -> Iterator[tuple[Page, list[str]]]:
    """The page of all models as it opens, which takes seconds, and what went wrong meanwhile."""
    errors: list[str] = []
    with browser.context(width=1400, height=900, scheme="light", scale=1) as context:
        page = context.new_page()
        end = listen(page, page_address, errors)
        page.goto(page_address)
        page.wait_for_function(ANSWERED, timeout=WAIT_MS)
        end()
        yield page, errors


@pytest.fixture
def shared_page(answered: tuple[Page, list[str]], page_address: str, errors: list[str]) -> Iterator[Page]:
    """The page of all models, as it opens. A test that changes it leaves it so that ``reset`` finds back."""
    page, _ = answered
    end = listen(page, page_address, errors)
    yield page
    end()
    reset(page, page_address)


def reset(page: Page, address: str) -> None:
    """As it opens; loaded anew where it went elsewhere."""
    page.set_viewport_size({"width": 1400, "height": 900})
    page.emulate_media(color_scheme="light")
    if page.url.rstrip("/") != address:
        page.goto(address)
    for panel in page.locator(".panel").all():
        version, sample = panel.locator("select"), panel.locator(".choices button").first
        if version.evaluate("select => select.selectedIndex"):
            version.select_option(index=0)
        if sample.get_attribute("aria-pressed") != "true":
            sample.click()
    page.wait_for_function(ANSWERED, timeout=WAIT_MS)


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
