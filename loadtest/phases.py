"""Where the time of a request goes: what the servers count of themselves, read before and after a run.

=========  ======================================================================================================
serialise  the client makes the request's bytes; it does so once for many requests, so it is measured apart
wire       what the client waits beyond the server's own time: both kernels, loopback, the client's event loop
server     the server's time without the next two: parsing, answering, and for the web app its way to a back end
queue      waiting for a thread or for a batch
compute    in the model
=========  ======================================================================================================

All are means in µs per request over the run, None where a server tells nothing. Our server tells queue and compute
apart. TF Serving's runtime includes the queue, which it counts only where it batches; the edge service's time in a
model includes the wait for an interpreter.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from deploy.ports import port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loadtest.generator import Outcome

    Counters = Mapping[tuple[str, frozenset[tuple[str, str]]], float]  # sums and counts, by name and labels
    Phases = dict[str, float | None]

SERVING_PAGE = "/monitoring/prometheus/metrics"  # as in serving/config/monitoring.config
PAGE = "/metrics"
PATIENCE_S = 5.0
SECOND = 1e6  # µs


@dataclass(frozen=True)
class _Series:
    """A histogram of times. ``unit`` is how many µs one of its units has; a request counts where all labels fit."""

    name: str
    unit: float
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Told:
    """The series that tell of one kind of server: total, then the parts of it. ``within``: queue is part of compute."""

    total: _Series
    queue: _Series | None
    compute: _Series | None
    within: bool = False


def _ours(phase: str, protocol: str) -> _Series:
    return _Series("model_server_request_seconds", SECOND, {"protocol": protocol, "phase": phase})


def _serving(protocol: str) -> list[_Told]:
    """Our server's own series, else TF Serving's."""
    theirs = ":tensorflow:serving:"
    predict = "predict" if protocol == "rest" else "Predict"  # other requests, such as for a status, count beside it
    return [
        _Told(_ours("total", protocol), _ours("queue", protocol), _ours("compute", protocol)),
        _Told(
            _Series(f"{theirs}request_latency", 1.0, {"entrypoint": protocol.upper(), "API": predict}),
            _Series(f"{theirs}batching_session:queuing_latency", 1.0),
            _Series(f"{theirs}runtime_latency", 1.0),
            within=True,
        ),
    ]


TOLD: dict[str, list[_Told]] = {
    "serving-rest": _serving("rest"),
    "serving-grpc": _serving("grpc"),
    "edge-http": [
        _Told(
            _Series("edge_request_duration_seconds", SECOND, {"method": "predict"}),
            None,
            _Series("edge_inference_duration_seconds", SECOND),
        )
    ],
    "web-http": [
        _Told(_Series("web_request_duration_seconds", SECOND, {"route": "predict"}), told.queue, told.compute)
        for told in _serving("rest")[:1]  # the page's server asks the model server by REST
    ],
}


def snapshot(target: str, address: str | None = None, *, rest_address: str | None = None) -> Counters:
    """What the servers behind ``target`` have counted so far; nothing where no page answers.

    ``address`` is host:port, by default the deployment's. The model server's page is on its REST port: ``rest_address``
    says where, when another one than the deployment's is asked by gRPC or stands behind the web app.
    """
    if target == "edge-http":
        return _page(address or _local("EDGE_PORT"), PAGE)
    if target == "web-http":
        web = _page(address or _local("WEB_PORT"), PAGE)
        return {**web, **_page(rest_address or _local("REST_PORT"), SERVING_PAGE)}
    if target == "serving-rest":
        rest_address = rest_address or address
    elif address and not rest_address:
        return {}
    return _page(rest_address or _local("REST_PORT"), SERVING_PAGE)


def phases(before: Counters, after: Counters, outcome: Outcome, serialise_us: float) -> Phases:
    """Means in µs per request over a run that lies between two snapshots."""
    found: Phases = {"serialise": serialise_us, "wire": None, "server": None, "queue": None, "compute": None}
    for told in TOLD[outcome.plan.target]:
        requests = _delta(before, after, told.total, outcome.plan.model, "_count")
        if not requests:
            continue

        def mean(series: _Series | None, requests: float = requests) -> float | None:
            if series is None:
                return None
            spent = _delta(before, after, series, outcome.plan.model, "_sum")
            return None if spent is None else spent * series.unit / requests

        total, queue, compute = mean(told.total), mean(told.queue), mean(told.compute)
        if told.within and queue is not None and compute is not None:
            compute -= queue
        found["queue"], found["compute"] = queue, compute
        if total is not None:
            found["server"] = total - (queue or 0.0) - (compute or 0.0)
            wire = outcome.service.get_mean_value() - total
            found["wire"] = wire if wire >= 0 else None  # others asked meanwhile, so that the means are not of one kind
        break
    return found


def _delta(before: Counters, after: Counters, series: _Series, model: str, ending: str) -> float | None:
    """How much a series grew over all its label values that fit; None where there is none. A restart starts at 0."""
    grown = [
        value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value
        for key, value in after.items()
        if key[0] == series.name + ending and _fits(dict(key[1]), series.labels, model)
    ]
    return sum(grown) if grown else None


def _fits(labels: Mapping[str, str], wanted: Mapping[str, str], model: str) -> bool:
    of_model = all(labels.get(name, model) == model for name in ("model", "model_name"))
    return of_model and all(labels.get(name) == value for name, value in wanted.items())


def _page(address: str, path: str) -> Counters:
    host, _, number = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(number), timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    return _read(text) if answer.status == 200 else {}


def _read(text: str) -> Counters:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.endswith(_ENDINGS)
    }


_ENDINGS = ("_sum", "_count")


def _local(name: str) -> str:
    return f"127.0.0.1:{port(name)}"
