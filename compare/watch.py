"""Canary beside stable for as long as it runs, for Prometheus: ``python -m compare.watch --port 9101``.

Both labels of each published model are asked the same rows of the canary's evidence over gRPC, a few at a time so that
nobody waits for them, and ``GET /metrics`` tells the share of decisions that differed when all were asked. It works with
our server and the real TensorFlow Serving, which has no metric of its own for the versions that it can answer with:
``model_available`` is read from GetModelStatus.

============================================================  ==========================================================
``model_available{model,version}``                            1: AVAILABLE; 0: published, and it is not
``canary_disagreement_ratio{model,stable,canary}``            0 to 1; the labels are version numbers
``canary_rows_compared_total{model,stable,canary}``           rows that both have answered
``canary_up{model}``                                          1: both answered in the last round; 0: one did not
============================================================  ==========================================================

A model whose labels point to one version, or without evidence to ask, has only ``model_available``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, Counter, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily

from compare.decision import decide
from deploy.ports import port
from export.bundle import find_exports
from models.artifacts import artifacts_root
from models.errors import DeployError, ExportOnceError, run_cli
from serving.client import ClientError, GrpcClient
from serving.models_config import CANARY, STABLE, published_models

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.spec import ModelSpec

SIGNATURE = "serving_default"
ROWS = 200  # of the evidence, evenly spread: one row is 0.5 %
AT_ONCE = 10  # rows of a request: a few milliseconds of the server
EVERY_S = 2.0  # all rows in 40 s
TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Rows:
    """Of a canary's evidence. ``spec`` has a decision."""

    spec: ModelSpec
    inputs: dict[str, NDArray]

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def some(self, start: int) -> dict[str, NDArray]:
        return {name: rows[start : start + AT_ONCE] for name, rows in self.inputs.items()}


@dataclass(frozen=True)
class Pair:
    """Two versions of a model, and how far the rows are asked: ``different`` of the first ``asked`` are.

    ``ratio`` is the last whole pass's, None before the first is through; ``up``: both answered just now.
    """

    model: str
    stable: int
    canary: int
    asked: int = 0
    different: int = 0
    ratio: float | None = None
    up: bool = True

    def after(self, differ: NDArray, rows: int) -> Pair:
        """With the answers to the next rows, of ``rows`` in all."""
        asked, different = self.asked + len(differ), self.different + int(differ.sum())
        if asked < rows:
            return replace(self, asked=asked, different=different, up=True)
        return replace(self, asked=0, different=0, ratio=different / asked, up=True)

    def silent(self) -> Pair:
        return replace(self, ratio=None, up=False)


class Watch:
    """Asks the server at ``address`` (host:port, gRPC); a collector of what it last saw."""

    def __init__(self, address: str, root: Path) -> None:
        self._address, self._root = address, root
        self._rows: dict[tuple[str, int], Rows | None] = {}
        self._available: dict[tuple[str, int], bool] = {}
        self._pairs: list[Pair] = []
        self.registry = CollectorRegistry()
        labels = ("model", "stable", "canary")
        self._compared = Counter("canary_rows_compared", "Rows that both answered.", labels, registry=self.registry)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def look(self) -> None:
        """One round over all published models: a few rows of each."""
        published = published_models(self._root)
        available: dict[tuple[str, int], bool] = {}
        # A new connection each time: gRPC would try again ever more seldom where a server is away for long.
        with GrpcClient(self._address, timeout=TIMEOUT_S) as client:
            for model, versions in published.items():
                states = _states(client, model)
                available |= {(model, version): states.get(version) == "AVAILABLE" for version in versions}
            pairs = [pair for model in published if (pair := self._pair(client, model))]
        self._available, self._pairs = available, pairs

    def collect(self) -> Iterable[GaugeMetricFamily]:
        there = GaugeMetricFamily(
            "model_available", "Whether a published version can be asked.", labels=["model", "version"]
        )
        for (model, version), yes in self._available.items():
            there.add_metric([model, str(version)], yes)
        yield there
        names = ["model", "stable", "canary"]
        ratio = GaugeMetricFamily("canary_disagreement_ratio", "Share of decisions that differ.", labels=names)
        up = GaugeMetricFamily("canary_up", "Whether stable and canary both answered.", labels=["model"])
        for pair in self._pairs:
            up.add_metric([pair.model], pair.up)
            if pair.ratio is not None:
                ratio.add_metric([pair.model, str(pair.stable), str(pair.canary)], pair.ratio)
        yield ratio
        yield up

    def _pair(self, client: GrpcClient, model: str) -> Pair | None:
        known = next((pair for pair in self._pairs if pair.model == model), None)
        try:
            stable, canary = (_version(client, model, label) for label in (STABLE, CANARY))
        except ClientError:
            return known and known.silent()
        if stable == canary or not (rows := self._evidence(model, canary)):
            return None
        if known is None or (known.stable, known.canary) != (stable, canary):
            known = Pair(model, stable, canary)
        try:
            before, after = (_answer(client, model, label, rows, known.asked) for label in (STABLE, CANARY))
        except ClientError:
            return known.silent()
        self._compared.labels(model, stable, canary).inc(len(before))
        return known.after(differ(before, after, rows.spec), len(rows))

    def _evidence(self, model: str, version: int) -> Rows | None:
        """Some of the version's test rows, read once; None where it has none, or nothing is decided by its answers."""
        key = (model, version)
        if key not in self._rows:
            try:
                self._rows[key] = _read(self._root, model, version)
            except ExportOnceError as error:
                print(f"watch: {model} version {version}: {error}", flush=True)
                self._rows[key] = None
        return self._rows[key]


def differ(before: NDArray, after: NDArray, spec: ModelSpec) -> NDArray:
    """Rows decided otherwise, bool [N]. A forecast: further away than the mean error that its metric allows."""
    assert spec.decision is not None
    if spec.decision.kind != "value":
        return decide(before, spec.decision) != decide(after, spec.decision)
    assert spec.metric is not None
    assert spec.metric.bound is not None
    return ~(np.abs(after - before).reshape(len(before), -1).max(axis=1) <= spec.metric.bound)  # NaN differs


def _states(client: GrpcClient, model: str) -> dict[int, str]:
    try:
        return {row["version"]: row["state"] for row in client.status(model)}
    except ClientError:
        return {}


def _version(client: GrpcClient, model: str, label: str) -> int:
    return int(client.metadata(model, label=label)["model_spec"]["version"])


def _answer(client: GrpcClient, model: str, label: str, rows: Rows, start: int) -> NDArray:
    assert rows.spec.decision is not None
    output = rows.spec.decision.output
    return client.predict(model, rows.some(start), label=label, outputs=[output])[output]


def _read(root: Path, model: str, version: int) -> Rows | None:
    exports = find_exports(root, models=[model], versions=[version])
    case = exports[0].evidence.case(SIGNATURE, "test") if exports else None
    if case is None:
        return None
    spec = exports[0].spec
    if spec.decision is None or (spec.decision.kind == "value" and (spec.metric is None or spec.metric.bound is None)):
        return None
    chosen = np.linspace(0, case.rows - 1, min(ROWS, case.rows)).astype(int)
    return Rows(spec, {name: rows[chosen] for name, rows in case.inputs.items()})


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m compare.watch",
        description="Tell Prometheus how far canary and stable disagree.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=port("WATCH_PORT"), help="TCP port of /metrics")
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in")
    parser.add_argument("--server", default=f"127.0.0.1:{port('GRPC_PORT')}", metavar="HOST:PORT", help="gRPC")
    parser.add_argument("--every", type=float, default=EVERY_S, metavar="SECONDS", help="between two rounds")
    options = parser.parse_args(argv)
    watch = Watch(options.server, artifacts_root())
    try:
        start_http_server(options.port, options.bind, registry=watch.registry)
    except OSError as error:
        raise DeployError(
            f"cannot listen on {options.bind} port {options.port}: {error.strerror}; choose another with --port"
        ) from None
    print(f"watch: http://{options.bind}:{options.port}/metrics, asking {options.server}", flush=True)
    while True:
        watch.look()
        time.sleep(options.every)


if __name__ == "__main__":
    run_cli(main)
