"""Metrics: --monitoring_config_file, TF Serving's series and our own, and the page on the REST port.

    prometheus_config { enable: true  path: "/monitoring/prometheus/metrics" }

TF Serving's have its names (a colon for each slash), labels and buckets; those of ours begin with ``model_server_``.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import text_format

from model_server.errors import Code, StartError
from model_server.metrics import Counter, Histogram, Reading, exponential, page
from model_server.protos import declare

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model_server.flags import Options
    from model_server.manager import Manager
    from model_server.metrics import HistogramCell, Row
    from model_server.observe import Call

DEFAULT_PATH = "/monitoring/prometheus/metrics"
PROMETHEUS_CONFIG = declare("PrometheusConfig", enable="bool", path="string")
MONITORING_CONFIG = declare("MonitoringConfig", prometheus_config="tensorflow.serving.PrometheusConfig")
# tensorflow_serving/servables/tensorflow/util.cc: 10 µs to 20 minutes; batching_session.cc: 100 µs to 1 s, 1 to 8192 rows.
LATENCY_MICROS = exponential(10, 1.8, 33)
QUEUING_MICROS = exponential(100, 1.2, 52)
ROWS = exponential(1, 2, 14)
SECONDS = [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
# Names of models that are not there come from clients; beyond so many they are counted together, as OTHER.
MAX_UNKNOWN_NAMES = 100
OTHER = "(other)"
# TF Serving's label of a session that runs a SavedModel, with or without its TFLite runtime.
RUNTIME = "TF1"


def read_monitoring(options: Options) -> str:
    """The page's path, empty where there is none. Raises StartError."""
    file = options.monitoring_config_file
    if not file:
        return ""
    config = MONITORING_CONFIG()
    try:
        text_format.Parse(Path(file).read_text("utf-8"), config)
    except OSError as error:
        raise StartError(f"--monitoring_config_file={file} cannot be read: {error.strerror}; check the path") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise StartError(
            f"--monitoring_config_file={file} is no MonitoringConfig in text format: {error}; "
            "write prometheus_config { enable: true }"
        ) from None
    path = config.prometheus_config.path or DEFAULT_PATH
    if not path.startswith("/") or "?" in path:
        raise StartError(f"{file}: the path {path!r} cannot be asked for; write for example {DEFAULT_PATH}")
    return path if config.prometheus_config.enable else ""


class Monitor:
    """Every metric of the server. It observes requests; the manager and the batcher tell it the rest."""

    content_type = b"text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, path: str, manager: Manager) -> None:
        self._path = path.encode()
        self._manager = manager
        self._unknown: set[str] = set()
        self._in_flight = {"GRPC": 0, "REST": 0}
        self._phases: dict[tuple[str, int, str, str], tuple[HistogramCell, ...]] = {}
        self._start = time.time()
        self._define_theirs()
        self._define_ours()
        self._metrics = [found for found in vars(self).values() if isinstance(found, (Counter, Histogram, Reading))]

    def _define_theirs(self) -> None:
        serving, core, loading = ":tensorflow:serving:", ":tensorflow:core:", ":tensorflow:cc:saved_model:"
        self._requests = Counter(f"{serving}request_count", "The total number of requests.", ("model_name", "status"))
        self._latency = Histogram(
            f"{serving}request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ("model_name", "API", "entrypoint"),
            limits=LATENCY_MICROS,
        )
        self._runtime = Histogram(
            f"{serving}runtime_latency",
            "Distribution of wall time (in microseconds) for Tensorflow runtime.",
            ("model_name", "API", "runtime"),
            limits=LATENCY_MICROS,
        )
        self._warmup = Histogram(
            f"{serving}model_warmup_latency",
            "Distribution of wall time (in microseconds) for warming up the model.",
            ("model_path", "status"),
            limits=LATENCY_MICROS,
        )
        self.request_logs = Counter(
            f"{serving}request_log_count",
            "The total number of requests logged from the model server sliced down by model_name and status code.",
            ("model_name", "status_code"),
        )
        self._load_attempts = Counter(
            f"{loading}load_attempt_count",
            "The number of times a SavedModel was requested to be loaded.",
            ("model_path", "status"),
        )
        self._load_micros = Counter(
            f"{loading}load_latency",
            "Latency in microseconds for SavedModels that were successfully loaded.",
            ("model_path",),
        )
        self._runs = Counter(f"{core}graph_runs", "The number of graph executions.")
        self._run_micros = Counter(
            f"{core}graph_run_time_usecs", "The total time spent on executing graphs in microseconds."
        )

    def _define_ours(self) -> None:
        self._codes = Counter(
            "model_server_requests_total",
            "Requests that run a model, by the version that was found for them and the gRPC code of their answer.",
            ("model", "version", "code", "protocol"),
        )
        self._seconds = Histogram(
            "model_server_request_seconds",
            "Time of answered requests: in all, waiting for a thread or a batch, and in the model.",
            ("model", "version", "signature", "protocol", "phase"),
            limits=SECONDS,
        )
        self._now = Reading(
            "model_server_in_flight", "Requests without an answer yet.", ("protocol",), self._read_in_flight
        )
        self._loaded = Reading(
            "model_server_loaded_versions",
            "Versions that answer now: 1 for each.",
            ("model", "version", "engine"),
            lambda: [((name, str(version), engine), 1) for name, version, engine in self._loaded_versions()],
        )
        self._memory = Reading(
            "process_resident_memory_bytes", "Resident memory.", (), lambda: [((), resident_bytes())]
        )
        self._cpu = Reading(
            "process_cpu_seconds_total", "CPU time.", (), lambda: [((), time.process_time())], kind="counter"
        )
        self._started = Reading(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970.",
            (),
            lambda: [((), self._start)],
        )

    # ------------------------------------------------------------ what happens

    def started(self, call: Call) -> None:
        self._in_flight[call.protocol] += 1

    def ended(self, call: Call) -> None:
        self._in_flight[call.protocol] -= 1
        servable, api = call.servable, call.api
        if servable is None:
            name, version = self._shown(call.model), ""
        else:
            name, version = call.model, str(servable.version)
        if api != "MultiInference":  # TF Serving counts it nowhere
            self._requests.cell(name, call.code.name).add()
        if api:
            self._codes.cell(name, version, call.code.name, call.protocol.lower()).add()
        if call.code is not Code.OK:
            return
        if api != "MultiInference":
            shown = api if call.protocol == "GRPC" else api.lower()
            self._latency.cell(name, shown, call.protocol).add(int(call.seconds * 1e6))
        if servable is None or call.signature is None:
            return
        self._runtime.cell(name, api, RUNTIME).add(int((call.queue + call.compute) * 1e6))
        self._runs.cell().add()
        self._run_micros.cell().add(int(call.compute * 1e6))
        key = (name, servable.version, call.signature.name, call.protocol)
        total, queue, compute = self._phases.get(key) or self._new_phases(key)
        total.add(call.seconds)
        queue.add(call.queue)
        compute.add(call.compute)

    def _new_phases(self, key: tuple[str, int, str, str]) -> tuple[HistogramCell, ...]:
        name, version, signature, protocol = key
        found = [
            self._seconds.cell(name, str(version), signature, protocol.lower(), phase)
            for phase in ("total", "queue", "compute")
        ]
        return self._phases.setdefault(key, tuple(found))

    def _shown(self, name: str) -> str:
        if name in self._unknown or name in self._manager.names:
            return name
        if len(self._unknown) >= MAX_UNKNOWN_NAMES:
            return OTHER
        self._unknown.add(name)
        return name

    def loaded(self, path: Path, seconds: float, warm_up_seconds: float | None) -> None:
        """A version was loaded; None: it has no warm-up requests."""
        self._load_attempts.cell(str(path), "success").add()
        self._load_micros.cell(str(path)).add(int(seconds * 1e6))
        if warm_up_seconds is not None:
            self._warmup.cell(str(path), "OK").add(int(warm_up_seconds * 1e6))

    def failed(self, path: Path) -> None:
        self._load_attempts.cell(str(path), "fail").add()

    # ------------------------------------------------------------ what is asked

    def page(self, raw_path: bytes, query: bytes) -> tuple[int, bytes] | None:
        """Status and body where a path is the page's, whatever the HTTP method; with a query it is another path."""
        if raw_path != self._path:
            return None
        if query:
            return 400, b"Unexpected path: %s?%s. Should be %s" % (self._path, query, self._path)
        written = page(self._metrics)
        self._forget_unloaded()
        return 200, written

    def _forget_unloaded(self) -> None:
        """Series of versions that are gone were read for the last time: a server that lives long publishes many."""
        loaded = {(name, str(version)) for name, version, _ in self._loaded_versions()}
        self._seconds.drop(lambda labels: labels[:2] not in loaded)
        self._codes.drop(lambda labels: labels[1] != "" and labels[:2] not in loaded)
        self._phases = {key: cells for key, cells in self._phases.items() if (key[0], str(key[1])) in loaded}

    def _loaded_versions(self) -> list[tuple[str, int, str]]:
        manager = self._manager
        return [(name, version, engine) for name in list(manager.names) for version, engine in manager.engines(name)]

    def _read_in_flight(self) -> Iterable[Row]:
        return [((protocol.lower(),), number) for protocol, number in self._in_flight.items()]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
