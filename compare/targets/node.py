"""``node-wasm``: the TF.js graph model in Node.js, on the WebAssembly backend; no browser, and no native library."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from compare.target import Session, Target
from compare.targets.page import DIST, graph_unsupported
from compare.transport import encode_all, first_row, predict_in_pieces
from deploy.environments import node_folder
from models.artifacts import read_json
from models.errors import TargetError
from web.convert import VARIANT, description_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from compare.target import Tensors
    from export.bundle import Export

PROGRAM = DIST / "node.mjs"


class NodeSession(Session):
    """A Node.js process that holds one model and answers lines of JSON."""

    def __init__(self, export: Export) -> None:
        self._description = read_json(description_json(export))
        self._spec = export.spec
        self._log = tempfile.TemporaryFile("w+", prefix="node-wasm-", errors="replace")  # noqa: SIM115
        folder = node_folder()
        assert folder  # else the target is unavailable
        self._process = subprocess.Popen(
            [str(folder / "node"), str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self._started = self._reply()
            self._ask("load", str(export.web(VARIANT) / "model.json"))
        except BaseException:
            self.close()
            raise

    def predict(self, inputs: Tensors) -> Tensors:
        return predict_in_pieces(inputs, self._spec, lambda piece: self._ask("predict", piece))

    def latencies(self, inputs: Tensors, calls: int) -> NDArray:
        milliseconds = self._ask("time", encode_all(inputs, self._spec.inputs), calls)
        return np.asarray(milliseconds, np.float64) / 1e3

    def facts(self) -> dict[str, object]:
        return {
            "artifact_bytes": self._description["bytes"],
            "artifact_sha256": self._description["sha256"],
            "rss_bytes": psutil.Process(self._process.pid).memory_info().rss,
            "runtime_version": self._started["version"],
            "threads": 1,
            "accelerator": self._started["accelerator"],
            "pid": self._process.pid,
        }

    def close(self) -> None:
        process = self._process
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # at its end the program ends
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._log.close()

    def _ask(self, call: str, *arguments: object) -> Any:
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended: the reply says why
            self._process.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            said = [text for text in self._log.read().splitlines() if "Error" in text]
            raise TargetError(
                f"Node.js ended with code {self._process.wait()}: {said[0] if said else 'it said nothing'}"
            )
        reply = json.loads(line)
        if "error" in reply:
            raise TargetError(f"TF.js in Node.js says: {reply['error']}")
        return reply["value"]


class NodeTarget(Target):
    name = "node-wasm"
    variant = VARIANT
    batch = "static"
    isolation = "page"

    def unavailable(self) -> str | None:
        if not PROGRAM.is_file():
            return f"the page is not built ({PROGRAM}); run `make page`"
        return None if node_folder() else "there is no Node.js here; run `make setup`, which installs it as a wheel"

    def unsupported(self, export: Export, signature: str) -> str | None:
        return graph_unsupported(export, signature)

    def open(self, export: Export, signature: str = "serving_default") -> Session:
        return NodeSession(export)

    def cold_start(self, export: Export, inputs: Tensors) -> float | None:
        """Seconds from the start of Node.js to the first answer."""
        start = time.perf_counter()
        with NodeSession(export) as session:
            session.predict(first_row(inputs))
            return time.perf_counter() - start


TARGETS = [NodeTarget()]
