"""Metrics: TF Serving's series and our own, and their page on the REST port.

TF Serving's have its names (a colon for each slash), labels and buckets; those of ours begin with ``model_server_``.
"""

from __future__ import annotations

import resource
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from model_server.errors import Code
from model_server.metrics import Registry, exponential

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from model_server.manager import Manager
    from model_server.metrics import CounterCell, HistogramCell, Row
    from model_server.observe import Call

# tensorflow_serving/servables/tensorflow/util.cc: 10 µs to 20 minutes; batching_session.cc: 100 µs to 1 s, 1 to 8192 rows.
LATENCY_MICROS = exponential(10, 1.8, 33)
QUEUING_MICROS = exponential(100, 1.2, 52)
ROWS = exponential(1, 2, 14)
SECONDS = [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
# Names of models that are not there come from clients; beyond so many they are counted together, as OTHER.
MAX_UNKNOWN_NAMES = 100
OTHER = "(other)"
# Answered requests are counted so many at a time, and whenever the page is asked for.
COUNTED_TOGETHER = 256
# TF Serving's label of a session that runs a SavedModel, with or without its TFLite runtime.
RUNTIME = "TF1"


OK = Code.OK


class _Cells(NamedTuple):
    """What an answered request is counted in; TF Serving counts a MultiInference only where it counts runs."""

    requests: CounterCell | None
    latency: HistogramCell | None
    runtime: HistogramCell
    codes: CounterCell
    total: HistogramCell
    queue: HistogramCell
    compute: HistogramCell


class _Answered:
    """The answered requests of one kind. Their times wait until there are some: counted together they cost a tenth."""

    def __init__(self, cells: _Cells, *, batched: bool) -> None:
        self.times: deque[tuple[float, float, float]] = deque()  # seconds in all, queueing, computing
        self.cells, self.batched = cells, batched


class Monitor:
    """Every metric of the server. It observes requests; the manager and the request log tell it the rest."""

    content_type = b"text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, path: str, manager: Manager, in_flight: Mapping[str, int]) -> None:
        self._path = path.encode()
        self._manager = manager
        self._unknown: set[str] = set()
        self._in_flight = in_flight
        self._answered: dict[tuple[str, int, str, str, str, bool], _Answered] = {}
        self._registry = Registry()
        self._lock = self._registry.lock
        self._define_theirs()
        self._define_ours()

    def _define_theirs(self) -> None:
        counter, histogram = self._registry.counter, self._registry.histogram
        serving, core, loading = ":tensorflow:serving:", ":tensorflow:core:", ":tensorflow:cc:saved_model:"
        self._requests = counter(f"{serving}request_count", "The total number of requests.", ("model_name", "status"))
        self._latency = histogram(
            f"{serving}request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ("model_name", "API", "entrypoint"),
            limits=LATENCY_MICROS,
        )
        self._runtime = histogram(
            f"{serving}runtime_latency",
            "Distribution of wall time (in microseconds) for Tensorflow runtime.",
            ("model_name", "API", "runtime"),
            limits=LATENCY_MICROS,
        )
        self._warmup = histogram(
            f"{serving}model_warmup_latency",
            "Distribution of wall time (in microseconds) for warming up the model.",
            ("model_path", "status"),
            limits=LATENCY_MICROS,
        )
        self._logs = counter(
            f"{serving}request_log_count",
            "The total number of requests logged from the model server sliced down by model_name and status code.",
            ("model_name", "status_code"),
        )
        self._load_attempts = counter(
            f"{loading}load_attempt_count",
            "The number of times a SavedModel was requested to be loaded.",
            ("model_path", "status"),
        )
        self._load_micros = counter(
            f"{loading}load_latency",
            "Latency in microseconds for SavedModels that were successfully loaded.",
            ("model_path",),
        )
        self._runs = counter(f"{core}graph_runs", "The number of graph executions.").cell()
        self._run_micros = counter(
            f"{core}graph_run_time_usecs", "The total time spent on executing graphs in microseconds."
        ).cell()
        session = f"{serving}batching_session:"
        self._queuing = histogram(
            f"{session}queuing_latency",
            "Distribution of wall time spent (in microseconds) in queuing",
            ("thread_pool_name",),
            limits=QUEUING_MICROS,
        )
        self._wrapped_runs = counter(f"{session}wrapped_run_count", "Total count of run calls on the wrapped session")
        self._input_rows = histogram(
            f"{session}input_batch_size", "Tracks the batch size distribution on the inputs.", limits=ROWS
        )
        self._batch_rows = histogram(
            f"{session}processed_batch_size", "Tracks the batch size distribution on processing.", limits=ROWS
        )
        self._padding = histogram(
            f"{session}padding_size",
            "Tracks the padding size distribution on batches.",
            ("execution_batch_size",),
            limits=ROWS,
        )

    def _define_ours(self) -> None:
        self._codes = self._registry.counter(
            "model_server_requests_total",
            "Requests that run a model, by the version that was found for them and the gRPC code of their answer.",
            ("model", "version", "code", "protocol"),
        )
        self._seconds = self._registry.histogram(
            "model_server_request_seconds",
            "Time of answered requests: in all, waiting for a thread or a batch, and in the model.",
            ("model", "version", "signature", "protocol", "phase"),
            limits=SECONDS,
        )
        reading, start = self._registry.reading, time.time()
        reading("model_server_in_flight", "Requests without an answer yet.", ("protocol",), self._read_in_flight)
        reading(
            "model_server_loaded_versions",
            "Versions that answer now: 1 for each.",
            ("model", "version", "engine"),
            lambda: [((name, str(version), engine), 1) for name, version, engine in self._loaded_versions()],
        )
        reading("process_resident_memory_bytes", "Resident memory.", (), lambda: [((), resident_bytes())])
        reading("process_cpu_seconds_total", "CPU time.", (), lambda: [((), time.process_time())], kind="counter")
        reading("process_start_time_seconds", "Start of the process, seconds since 1970.", (), lambda: [((), start)])

    # ------------------------------------------------------------ what happens

    def ended(self, call: Call) -> None:
        servable, signature = call.servable, call.signature
        if call.code is not OK or servable is None or signature is None:
            self._failed_or_asked(call)
            return
        key = (servable.name, servable.version, signature.name, call.api, call.protocol, call.batched)
        answered = self._answered.get(key)
        if answered is None:
            with self._lock:
                answered = self._answered.setdefault(key, self._new_answered(*key))
        answered.times.append((call.seconds, call.queue, call.compute))
        if len(answered.times) >= COUNTED_TOGETHER:
            with self._lock:
                self._count(answered)

    def _new_answered(
        self, name: str, version: int, signature: str, api: str, protocol: str, batched: bool
    ) -> _Answered:
        shown, ours, counted = str(version), protocol.lower(), api != "MultiInference"
        total, queue, compute = (
            self._seconds.cell(name, shown, signature, ours, phase) for phase in ("total", "queue", "compute")
        )
        return _Answered(
            _Cells(
                self._requests.cell(name, OK.name) if counted else None,
                self._latency.cell(name, _api_label(api, protocol), protocol) if counted else None,
                self._runtime.cell(name, api, RUNTIME),
                self._codes.cell(name, shown, OK.name, ours),
                total,
                queue,
                compute,
            ),
            batched=batched,
        )

    def _count(self, answered: _Answered) -> None:
        times = [answered.times.popleft() for _ in range(len(answered.times))]
        if not times:
            return
        cells = answered.cells
        total, queue, compute = np.array(times).T
        if cells.requests is not None and cells.latency is not None:
            cells.requests.add(len(times))
            cells.latency.add_all(np.trunc(total * 1e6))
        cells.runtime.add_all(np.trunc((queue + compute) * 1e6))
        if not answered.batched:  # batch_ran counts those
            self._runs.add(len(times))
            self._run_micros.add(int(compute.sum() * 1e6))
        cells.codes.add(len(times))
        cells.total.add_all(total)
        cells.queue.add_all(queue)
        cells.compute.add_all(compute)

    def _failed_or_asked(self, call: Call) -> None:
        """A request that failed, or one for a status or metadata by REST, which TF Serving counts like the others."""
        with self._lock:
            name = call.model if call.servable is not None else self._shown(call.model)
            if call.api != "MultiInference":
                self._requests.cell(name, call.code.name).add()
                if call.code is OK:
                    self._latency.cell(name, _api_label(call.api, call.protocol), call.protocol).add(
                        int(call.seconds * 1e6)
                    )
            if call.api:
                version = str(call.servable.version) if call.servable is not None else ""
                self._codes.cell(name, version, call.code.name, call.protocol.lower()).add()

    def _shown(self, name: str) -> str:
        if name in self._unknown or name in self._manager.names:
            return name
        if len(self._unknown) >= MAX_UNKNOWN_NAMES:
            return OTHER
        self._unknown.add(name)
        return name

    def loaded(self, path: Path, seconds: float, warm_up_seconds: float | None) -> None:
        """A version was loaded; None: it has no warm-up requests."""
        with self._lock:
            self._load_attempts.cell(str(path), "success").add()
            self._load_micros.cell(str(path)).add(int(seconds * 1e6))
            if warm_up_seconds is not None:
                self._warmup.cell(str(path), "OK").add(int(warm_up_seconds * 1e6))

    def failed(self, path: Path) -> None:
        with self._lock:
            self._load_attempts.cell(str(path), "fail").add()

    def logged(self, model: str, code: Code, number: int) -> None:
        """Requests were written to the request log, or were lost for the reason that ``code`` stands for."""
        with self._lock:
            self._logs.cell(model, code.name).add(number)

    # ------------------------------------------------------------ batches (batching.BatchObserver)

    def request_came(self, rows: int, inputs: int) -> None:
        with self._lock:
            for _ in range(inputs):  # TF Serving counts each tensor
                self._input_rows.cell().add(rows)

    def batch_began(self, queued: Sequence[float], rows: int, added: int) -> None:
        with self._lock:
            for seconds in queued:
                self._queuing.cell("").add(int(seconds * 1e6))
            self._batch_rows.cell().add(rows)
            self._padding.cell(str(rows)).add(added)

    def batch_ran(self, seconds: float) -> None:
        with self._lock:
            self._wrapped_runs.cell().add()
            self._runs.add()
            self._run_micros.add(int(seconds * 1e6))

    # ------------------------------------------------------------ what is asked

    def page(self, raw_path: bytes, query: bytes) -> tuple[int, bytes] | None:
        """Status and body where a path is the page's, whatever the HTTP method; with a query it is another path."""
        if raw_path != self._path:
            return None
        if query:
            return 400, b"Unexpected path: %s?%s. Should be %s" % (self._path, query, self._path)
        with self._lock:
            for answered in self._answered.values():
                self._count(answered)
        page = self._registry.page()
        with self._lock:
            self._forget_unloaded()
        return 200, page

    def _forget_unloaded(self) -> None:
        """Series of versions that are gone were read for the last time: a server that lives long publishes many."""
        loaded = {(name, str(version)) for name, version, _ in self._loaded_versions()}
        self._seconds.drop(lambda labels: labels[:2] not in loaded)
        self._codes.drop(lambda labels: labels[1] != "" and labels[:2] not in loaded)
        self._answered = {key: cells for key, cells in self._answered.items() if (key[0], str(key[1])) in loaded}

    def _loaded_versions(self) -> list[tuple[str, int, str]]:
        manager = self._manager
        return [(name, version, engine) for name in list(manager.names) for version, engine in manager.engines(name)]

    def _read_in_flight(self) -> Iterable[Row]:
        return [((protocol.lower(),), number) for protocol, number in self._in_flight.items()]


def _api_label(api: str, protocol: str) -> str:
    return api if protocol == "GRPC" else api.lower()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
