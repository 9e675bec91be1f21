"""The runtimes of a real headless Chromium: TF.js with its graph models, LiteRT.js with the .tflite files.

The page (``web/demo``, bench.html) runs the model; this file carries tensors to it and back. A runtime has one page,
in which one model after another is loaded; two models at once have two.
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
        self._idle: list[Started] = []

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
        """Start the browser, and the runtime in a page of it, so that a session's first answer holds the model alone."""
        self.give_back(self.take())

    def open(self, export: Export, signature: str = "serving_default") -> PageSession:
        if reason := self.unavailable() or self.unsupported(export, signature):
            raise TargetError(reason)
        return PageSession(self, export)

    def take(self) -> Started:
        """A page with the runtime started and no model that anybody uses."""
        return self._idle.pop() if self._idle else Started(self._browser(), self.runtime)

    def give_back(self, started: Started) -> None:
        self._idle.append(started)

    def cold_start(self, export: Export, inputs: Tensors) -> float | None:
        """Seconds from the start of a page load to the first answer; the browser runs already, nothing is cached."""
        page = open_page(browser := self._browser())
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
        while self._idle:
            self._idle.pop().close()
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


class Started:
    """A page in which a runtime runs. It holds one model; loading another one lets the first go."""

    def __init__(self, browser: Browser, runtime: str) -> None:
        self.browser = browser
        self.page = open_page(browser)
        try:
            self.facts: dict[str, Any] = self.ask("name => bench.start(name)", runtime)
        except BaseException:
            self.close()
            raise

    def ask(self, expression: str, argument: object) -> Any:
        return evaluate(self.page, expression, argument)

    def close(self) -> None:
        close_page(self.page)


class PageSession(Session):
    """A model in a page. A page in which something went wrong is closed with its session and not used again."""

    def __init__(self, target: PageTarget, export: Export) -> None:
        self._description = target.description(export)
        self._border = Border(self._description)
        self._target = target
        self._spec = export.spec
        self._sound = True
        self._started = target.take()
        try:
            self._ask("u => bench.load(u)", serve(self._started.browser, target.file(export)))
        except BaseException:
            self._started.close()
            raise

    def predict(self, inputs: Tensors) -> Tensors:
        prepared = self._border.to_file(inputs)
        answers = predict_in_pieces(prepared, self._spec, lambda x: self._ask("x => bench.predict(x)", x))
        return self._border.to_raw(answers, inputs)

    def latencies(self, inputs: Tensors, calls: int) -> NDArray:
        encoded = encode_all(self._border.to_file(inputs), self._spec.inputs)
        milliseconds = self._ask("([x, n]) => bench.time(x, n)", [encoded, calls])
        return np.asarray(milliseconds, np.float64) / 1e3

    def facts(self) -> dict[str, object]:
        told = self._started.facts
        return {
            "artifact_bytes": self._description["bytes"],
            "artifact_sha256": self._description["sha256"],
            "rss_bytes": None,
            "runtime_version": f"{told['version']}, Chromium {self._started.browser.version}",
            "threads": told["threads"],
            "accelerator": f"{self._target.runtime.partition('-')[2]}: {told['accelerator']}",
        }

    def close(self) -> None:
        if self._sound:
            self._target.give_back(self._started)
        else:
            self._started.close()

    def _ask(self, expression: str, argument: object) -> Any:
        try:
            return self._started.ask(expression, argument)
        except BaseException:
            self._sound = False
            raise


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
