"""A headless Chromium for the targets that run in one, and a loopback server for the files it asks for.

Both are started at the first use and shared by all targets of the process; the last one to leave stops them.
Nothing is left behind: not the browser, not its profile, not the server.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from deploy.environments import find_browser
from models.errors import TargetError
from web.headers import CONTENT_TYPES, headers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page, Playwright

FLAGS = (
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Software WebGL: the numbers are the same on every machine, the times are those of a CPU.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # The same for WebGPU, which is off by default without hardware.
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
)
Scheme = Literal["light", "dark"]
PROFILE = "export-once-chromium-"
REMEDY = "run `apt-get install chromium` as root, or set CHROMIUM=/path/to/chromium"


def missing_browser() -> str | None:
    """Why no browser can be started here, with the remedy, or None."""
    named = os.environ.get("CHROMIUM")
    if named and not shutil.which(named):
        return f"CHROMIUM={named} is no program that can be run; {REMEDY}"
    return None if find_browser() else f"there is no Chromium or Chrome here; {REMEDY}"


class FileServer:
    """Serves folders under names on a free loopback port, isolated across origins and never cached."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        folders = self._folders

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                name, _, rest = self.path.partition("?")[0].lstrip("/").partition("/")
                folder, inner = (
                    (folders[name], rest) if name in folders else (folders.get(""), f"{name}/{rest}".strip("/"))
                )
                file = (folder / inner).resolve() if folder else None
                if not folder or not file or not file.is_relative_to(folder) or not file.is_file():
                    self._answer(HTTPStatus.NOT_FOUND, b"", "text/plain")
                else:
                    kind = CONTENT_TYPES.get(file.suffix, "application/octet-stream")
                    self._answer(HTTPStatus.OK, file.read_bytes(), kind)

            def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
                self.send_response(status)
                for header, value in headers_of(self.path.partition("?")[0].rpartition("/")[2]).items():
                    self.send_header(header, value)
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a browser drops connections as it likes

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="browser-files", daemon=True).start()

    def serve(self, name: str, folder: Path) -> str:
        """Make ``folder`` reachable below ``/<name>/``, or as the root for the empty name; returns its address."""
        self._folders[name] = folder.resolve()
        return f"{self.address}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Browser:
    """One Chromium with a profile of its own, deleted with it."""

    def __init__(self) -> None:
        if reason := missing_browser():
            raise TargetError(reason)
        from playwright.sync_api import Error, sync_playwright

        sweep_profiles()
        self._profile = Path(tempfile.mkdtemp(prefix=f"{PROFILE}{os.getpid()}-"))
        self._playwright: Playwright | None = None
        self._context: BrowserContext | None = None
        try:
            self._playwright = sync_playwright().start()
            self._context = self._playwright.chromium.launch_persistent_context(
                self._profile,
                executable_path=os.environ.get("CHROMIUM") or find_browser(),
                headless=True,
                chromium_sandbox=False,
                args=[*FLAGS],
            )
            page = self._context.pages[0]
            self.version: str = page.evaluate("navigator.userAgent.match(/Chrome\\/([\\d.]+)/)[1]")
        except BaseException as error:
            self.close()
            if isinstance(error, Error):
                raise TargetError(f"Chromium does not start: {first_line(error)}; {REMEDY}") from error
            raise
        self.files = FileServer()

    def new_page(self) -> Page:
        assert self._context
        return self._context.new_page()

    @contextlib.contextmanager
    def context(
        self, *, width: int, height: int, scheme: Scheme, scale: float, touch: bool = False
    ) -> Iterator[BrowserContext]:
        """A context of its own with that window, colour scheme and density."""
        assert self._context
        assert self._context.browser
        context = self._context.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            device_scale_factor=scale,
            has_touch=touch,
        )
        try:
            yield context
        finally:
            context.close()

    def close(self) -> None:
        from playwright.sync_api import Error

        with contextlib.suppress(Error):
            if self._context:
                self._context.close()
        with contextlib.suppress(Exception):  # after Ctrl-C its driver may be gone already
            if self._playwright:
                self._playwright.stop()
        self._kill_leftovers()
        if hasattr(self, "files"):
            self.files.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def _kill_leftovers(self) -> None:
        """Chromium's processes name their profile; what still runs with ours was started here."""
        mark = f"--user-data-dir={self._profile}"
        for process in psutil.process_iter(["cmdline"]):
            if mark in (process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.Error):
                    process.kill()


def sweep_profiles() -> None:
    """Remove the profiles of processes that were killed before they could."""
    for leftover in Path(tempfile.gettempdir()).glob(f"{PROFILE}*"):
        pid = leftover.name.removeprefix(PROFILE).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)


_lock = threading.Lock()
_shared: Browser | None = None
_users: set[int] = set()


def acquire(user: object) -> Browser:
    """The shared browser, started if it is not; ``release`` with the same user gives it back."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = Browser()
        _users.add(id(user))
        return _shared


def release(user: object) -> None:
    global _shared
    with _lock:
        _users.discard(id(user))
        if not _users and _shared is not None:
            browser, _shared = _shared, None
            browser.close()


@atexit.register
def _close_at_exit() -> None:
    global _shared
    if _shared is not None:
        browser, _shared = _shared, None
        browser.close()


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
