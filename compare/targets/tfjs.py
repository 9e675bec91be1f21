"""TF.js in a real headless Chromium: the graph model on the cpu, wasm and webgl backends.

The page (``web/demo``, bench.html) runs the model; this file carries tensors to it and back. One page per session.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compare.browser import acquire, first_line, missing_browser, release
from compare.target import Session, Target
from models.artifacts import REPOSITORY, read_json
from models.errors import TargetError
from web.convert import VARIANT, description_json, missing_converter, signature_of

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray
    from playwright.sync_api import Page

    from compare.browser import Browser
    from compare.target import Tensors
    from export.bundle import Export
    from models.spec import TensorSpec

DIST = REPOSITORY / "web" / "demo" / "dist"
READY_MS = 60_000
ROWS_PER_CALL = 256
_names = itertools.count()


class TfjsTarget(Target):
    variant = VARIANT
    precision: Literal["float32", "float16", "dynamic", "int8"] = "float32"
    batch: Literal["any", "static"] = "static"
    isolation: Literal["process", "page", "shared"] = "page"

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.name = f"tfjs-{backend}"

    def unavailable(self) -> str | None:
        if not (DIST / "bench.html").is_file():
            return f"the page is not built ({DIST}); run `make page`"
        return missing_browser()

    def unsupported(self, export: Export, signature: str) -> str | None:
        held = signature_of(export)
        if signature != held and (held, signature) != ("static", "serving_default"):  # these two compute the same
            return f"the graph model holds the signature {held!r} only"
        strings = [t.name for t in export.spec.inputs if t.dtype == "string"]
        if strings:
            return f"input {strings[0]!r} takes strings; a TF.js graph model takes numbers only"
        fixed = [t.shape[0] for t in export.spec.inputs if t.shape and t.shape[0] not in (None, 1)]
        if fixed:
            return f"the model takes {fixed[0]} rows at a time, no other number; the page asks one row at a time"
        if description_json(export).is_file():
            return read_json(description_json(export))["error"]
        return missing_converter()

    def prepare(self) -> None:
        """Start the browser, so that a session's first answer holds the page and the model alone."""
        self._browser()

    def open(self, export: Export, signature: str = "serving_default") -> TfjsSession:
        if reason := self.unavailable() or self.unsupported(export, signature):
            raise TargetError(reason)
        return TfjsSession(self._browser(), self.backend, export)

    def cold_start(self, export: Export, inputs: Tensors) -> float | None:
        """Seconds from the start of a page load to the first answer; the browser runs already, nothing is cached."""
        browser = self._browser()
        page = open_page(browser)
        try:
            url = f"{browser.files.serve(f'model-{next(_names)}', export.web(VARIANT))}/model.json"
            encoded = encode_all(first_row(inputs), export.spec.inputs)
            milliseconds = evaluate(page, "([b, u, x]) => bench.coldStart(b, u, x)", [self.backend, url, encoded])
        finally:
            close_page(page)
        return milliseconds / 1e3

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        release(self)

    def _browser(self) -> Browser:
        if reason := self.unavailable():
            raise TargetError(reason)
        browser = acquire(self)
        browser.files.serve("", DIST)
        return browser


class TfjsSession(Session):
    """A page that holds one model on one backend."""

    def __init__(self, browser: Browser, backend: str, export: Export) -> None:
        self._description = read_json(description_json(export))
        self._spec = export.spec
        self._browser = browser
        self._page = open_page(browser)
        try:
            self._started: dict[str, Any] = evaluate(self._page, "b => bench.start(b)", backend)
            url = f"{browser.files.serve(f'model-{next(_names)}', export.web(VARIANT))}/model.json"
            evaluate(self._page, "u => bench.load(u)", url)
        except BaseException:
            close_page(self._page)
            raise

    def predict(self, inputs: Tensors) -> Tensors:
        """Rows are looped over inside the page; a long batch crosses in pieces, so that no message grows large."""
        rows = len(next(iter(inputs.values())))
        pieces = []
        for start in range(0, rows, ROWS_PER_CALL):
            piece = {name: array[start : start + ROWS_PER_CALL] for name, array in inputs.items()}
            answer = evaluate(self._page, "x => bench.predict(x)", encode_all(piece, self._spec.inputs))
            pieces.append(decode_all(answer))
        dtypes = {t.name: t.dtype for t in self._spec.outputs}
        return {
            name: np.concatenate([p[name] for p in pieces]).astype(dtypes.get(name, first.dtype), copy=False)
            for name, first in pieces[0].items()
        }

    def latencies(self, inputs: Tensors, calls: int) -> NDArray:
        encoded = encode_all(inputs, self._spec.inputs)
        milliseconds = evaluate(self._page, "([x, n]) => bench.time(x, n)", [encoded, calls])
        return np.asarray(milliseconds, np.float64) / 1e3

    def facts(self) -> dict[str, object]:
        return {
            "artifact_bytes": self._description["bytes"],
            "artifact_sha256": self._description["sha256"],
            "rss_bytes": None,
            "runtime_version": f"TF.js {self._started['version']}, Chromium {self._browser.version}",
            "threads": self._started["threads"],
            "accelerator": f"{self._started['backend']}: {self._started['accelerator']}",
        }

    def close(self) -> None:
        close_page(self._page)


def open_page(browser: Browser) -> Page:
    """A fresh page on bench.html, ready for calls."""
    from playwright.sync_api import Error

    page = browser.new_page()
    try:
        page.goto(f"{browser.files.address}/bench.html", timeout=READY_MS)
        page.wait_for_function("() => window.bench !== undefined", timeout=READY_MS)
    except Error as error:
        close_page(page)
        raise TargetError(f"the benchmark page does not load: {first_line(error)}") from error
    return page


def close_page(page: Page) -> None:
    from playwright.sync_api import Error

    with contextlib.suppress(Error):
        page.close()


def evaluate(page: Page, expression: str, argument: object) -> Any:
    """Run ``expression`` in the page. Raises TargetError with what the page said."""
    from playwright.sync_api import Error

    try:
        return page.evaluate(expression, argument)
    except Error as error:
        said = first_line(error).removeprefix("Page.evaluate: ").removeprefix("Error: ")
        raise TargetError(f"TF.js in the page says: {said}") from error


def first_row(inputs: Tensors) -> Tensors:
    return {name: array[:1] for name, array in inputs.items()}


def encode_all(inputs: Tensors, specs: tuple[TensorSpec, ...]) -> dict[str, dict[str, object]]:
    known = {t.name for t in specs}
    if unknown := set(inputs) - known:
        raise TargetError(f"there is no input {sorted(unknown)[0]!r}; there are: {', '.join(sorted(known))}")
    return {name: encode(name, array) for name, array in inputs.items()}


def encode(name: str, array: NDArray) -> dict[str, object]:
    """TF.js knows float32 and int32 alone; what does not fit into them is refused, not bent."""
    if array.dtype.kind not in "fiub":
        raise TargetError(f"input {name!r} is {array.dtype}; TF.js takes numbers only")
    narrow = array.astype("<f4" if array.dtype.kind == "f" else "<i4")
    if array.dtype.kind in "iu" and not np.array_equal(narrow, array):
        raise TargetError(f"input {name!r} has integers beyond 32 bits, which TF.js does not take")
    data = base64.b64encode(np.ascontiguousarray(narrow).tobytes()).decode()
    return {"shape": list(array.shape), "dtype": "float32" if narrow.dtype.kind == "f" else "int32", "data": data}


def decode_all(outputs: dict[str, dict[str, Any]]) -> Tensors:
    return {
        name: np.frombuffer(base64.b64decode(t["data"]), "<f4" if t["dtype"] == "float32" else "<i4").reshape(
            t["shape"]
        )
        for name, t in outputs.items()
    }


TARGETS = [TfjsTarget("cpu"), TfjsTarget("wasm"), TfjsTarget("webgl")]
