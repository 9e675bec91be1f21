"""The runtimes of a real headless Chromium: TF.js with its graph models, LiteRT.js with the .tflite files.

The page (``web/demo``, bench.html) runs the model; this file carries tensors to it and back. One page per session.
"""

from __future__ import annotations

import contextlib
import itertools
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compare.border import Border
from compare.browser import acquire, first_line, missing_browser, release
from compare.target import Session, Target
from compare.targets.lite import current_file, unsupported_file
from compare.transport import encode_all, first_row, predict_in_pieces
from models.artifacts import REPOSITORY, read_json
from models.errors import TargetError
from web.convert import VARIANT, description_json, missing_converter, signature_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from playwright.sync_api import Page

    from compare.browser import Browser
    from compare.target import Tensors
    from export.bundle import Export

DIST = REPOSITORY / "web" / "demo" / "dist"
READY_MS = 60_000
# TF.js runs a program on the GPU for each operation; in software, which the comparison's browser has, that takes 8 ms.
MANY_OPERATIONS = 300
_names = itertools.count()


class PageTarget(Target):
    """A runtime of the page by its name there: "tfjs-wasm", "litertjs-webgpu"."""

    variant = VARIANT
    batch: Literal["any", "static"] = "static"
    isolation: Literal["process", "page", "shared"] = "page"

    def __init__(self, runtime: str) -> None:
        self.name = self.runtime = runtime

    @abstractmethod
    def file(self, export: Export) -> Path:
        """What the page loads."""

    @abstractmethod
    def description(self, export: Export) -> dict[str, Any]:
        """The json beside it: bytes, sha256."""

    def unavailable(self) -> str | None:
        if not (DIST / "bench.html").is_file():
            return f"the page is not built ({DIST}); run `make page`"
        return missing_browser()

    def prepare(self) -> None:
        """Start the browser, so that a session's first answer holds the page and the model alone."""
        self._browser()

    def open(self, export: Export, signature: str = "serving_default") -> PageSession:
        if reason := self.unavailable() or self.unsupported(export, signature):
            raise TargetError(reason)
        return PageSession(self._browser(), self, export)

    def cold_start(self, export: Export, inputs: Tensors) -> float | None:
        """Seconds from the start of a page load to the first answer; the browser runs already, nothing is cached."""
        browser = self._browser()
        page = open_page(browser)
        try:
            prepared = Border(self.description(export)).to_file(first_row(inputs))
            encoded = encode_all(prepared, export.spec.inputs)
            arguments = [self.runtime, serve(browser, self.file(export)), encoded]
            milliseconds = evaluate(page, "([name, u, x]) => bench.coldStart(name, u, x)", arguments)
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


class TfjsTarget(PageTarget):
    """``variant``: how the graph model's weights are stored; TF.js computes in float32 all the same."""

    def __init__(self, runtime: str, variant: Literal["float32", "float16", "uint8"] = "float32") -> None:
        super().__init__(runtime)
        self.variant = variant
        self.precision = "weight-only" if variant == "uint8" else variant
        if variant != VARIANT:
            self.name = f"{runtime}-{variant}"

    def file(self, export: Export) -> Path:
        return export.web(self.variant) / "model.json"

    def description(self, export: Export) -> dict[str, Any]:
        return read_json(description_json(export, self.variant))

    def unsupported(self, export: Export, signature: str) -> str | None:
        if reason := graph_unsupported(export, signature, self.variant):
            return reason
        operations = len(read_json(self.file(export))["modelTopology"]["node"]) if self.file(export).is_file() else 0
        if self.runtime == "tfjs-webgpu" and operations > MANY_OPERATIONS:
            return f"{operations} operations take seconds an answer on WebGPU in software, which this browser has"
        return None


class LiteRtJsTarget(PageTarget):
    """``variant``: of the .tflite file; LiteRT.js takes float32 and int32 alone at its border."""

    def __init__(self, runtime: str, variant: Literal["float32", "int8-inside"] = "float32") -> None:
        super().__init__(runtime)
        self.variant = variant
        if variant == "int8-inside":
            self.name, self.precision = f"{runtime}-int8", "int8"

    def file(self, export: Export) -> Path:
        return current_file(export, self.variant)

    def description(self, export: Export) -> dict[str, Any]:
        return read_json(self.file(export).with_suffix(".json"))

    def known_fault(self, export: Export) -> str | None:
        if (self.name, export.model) != ("litertjs-webgpu", "lstm"):
            return None
        return "LiteRT.js 2.5.3 answers this model wrongly on WebGPU and throws nothing, so the page refuses it"

    def unsupported(self, export: Export, signature: str) -> str | None:
        rows = takes_other_than_single_rows_of_numbers(export)
        if reason := rows or unsupported_file(export, self.variant, signature):
            return reason
        described = export.lite(self.variant).with_suffix(".json")
        if described.is_file() and any(None in tensor["shape"] for tensor in read_json(described)["inputs"]):
            return "its .tflite file leaves the number of rows free; LiteRT.js wants it fixed"
        return None


def graph_unsupported(export: Export, signature: str, variant: str = VARIANT) -> str | None:
    """Why there is no TF.js graph model that answers this signature, or None."""
    held = signature_of(export)
    if signature != held and (held, signature) != ("static", "serving_default"):  # these two compute the same
        return f"the graph model holds the signature {held!r} only"
    if reason := takes_other_than_single_rows_of_numbers(export):
        return reason
    if description_json(export, variant).is_file():
        return read_json(description_json(export, variant))["error"]
    return missing_converter()


def takes_other_than_single_rows_of_numbers(export: Export) -> str | None:
    strings = [t.name for t in export.spec.inputs if t.dtype == "string"]
    if strings:
        return f"input {strings[0]!r} takes strings; a page's runtime takes numbers only"
    fixed = [t.shape[0] for t in export.spec.inputs if t.shape and t.shape[0] not in (None, 1)]
    if fixed:
        return f"the model takes {fixed[0]} rows at a time, no other number; the page asks one row at a time"
    return None


class PageSession(Session):
    """A page that holds one model on one runtime."""

    def __init__(self, browser: Browser, target: PageTarget, export: Export) -> None:
        self._description = target.description(export)
        self._border = Border(self._description)
        self._runtime = target.runtime
        self._spec = export.spec
        self._browser = browser
        self._page = open_page(browser)
        try:
            self._started: dict[str, Any] = evaluate(self._page, "name => bench.start(name)", target.runtime)
            evaluate(self._page, "u => bench.load(u)", serve(browser, target.file(export)))
        except BaseException:
            close_page(self._page)
            raise

    def predict(self, inputs: Tensors) -> Tensors:
        prepared = self._border.to_file(inputs)
        answers = predict_in_pieces(prepared, self._spec, lambda x: evaluate(self._page, "x => bench.predict(x)", x))
        return self._border.to_raw(answers, inputs)

    def latencies(self, inputs: Tensors, calls: int) -> NDArray:
        encoded = encode_all(self._border.to_file(inputs), self._spec.inputs)
        milliseconds = evaluate(self._page, "([x, n]) => bench.time(x, n)", [encoded, calls])
        return np.asarray(milliseconds, np.float64) / 1e3

    def facts(self) -> dict[str, object]:
        return {
            "artifact_bytes": self._description["bytes"],
            "artifact_sha256": self._description["sha256"],
            "rss_bytes": None,
            "runtime_version": f"{self._started['version']}, Chromium {self._browser.version}",
            "threads": self._started["threads"],
            "accelerator": f"{self._runtime.partition('-')[2]}: {self._started['accelerator']}",
        }

    def close(self) -> None:
        close_page(self._page)


def serve(browser: Browser, file: Path) -> str:
    """The address at which a page finds the file, and what lies beside it."""
    return f"{browser.files.serve(f'model-{next(_names)}', file.parent)}/{file.name}"


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
        raise TargetError(f"the page says: {said}") from error


TARGETS = [
    *(TfjsTarget(f"tfjs-{backend}") for backend in ("cpu", "wasm", "wasm-threads", "webgl", "webgpu")),
    TfjsTarget("tfjs-wasm", "float16"),
    TfjsTarget("tfjs-wasm", "uint8"),
    *(LiteRtJsTarget(f"litertjs-{accelerator}") for accelerator in ("wasm", "webgpu")),
    LiteRtJsTarget("litertjs-wasm", "int8-inside"),
]
