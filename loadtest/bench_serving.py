"""``make bench-serving``: what the model server costs and how fast it is, beside TensorFlow in process and TF Serving.

    python -m loadtest.bench_serving [--server 'COMMAND'] [--json FILE]

Every figure is the server's own CPU time (its process tree) or a latency from the client's side; answers are compared
with the evidence, and gRPC's status is looked at. Rounds of all models and protocols are interleaved, so that a busy
moment of the machine meets all of them. ``--server`` puts the same load on any server that takes TF Serving's flags.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import multiprocessing
import os
import platform
import shlex
import shutil
import statistics
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.bundle import Export, find_exports
from loadtest.connections import GrpcConnection, HttpConnection, connect
from loadtest.cycles import resident_by_cycle
from loadtest.in_process import InProcess
from loadtest.loops import Load, closed_loop, open_loop
from loadtest.questions import GRPC_PATH, Question, questions
from loadtest.served import Served
from models.artifacts import artifacts_root, write_json
from models.errors import DeployError, run_cli
from serving.launch import command as model_server
from serving.models_config import config_text, published_models

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CYCLES = 1000
# Runs of the tail's open loop, and the seconds of each.
TAIL_RUNS, TAIL_SECONDS = 25, 0.2
PARTS = {"start", "cpu", "tail", "batching", "cycles"}
CONCURRENCY = 16
CONNECTIONS = {"rest": 16, "grpc": 4}  # 4 streams on each gRPC connection
PROTOCOLS: dict[str, Callable[[], Any]] = {"rest": HttpConnection, "grpc": functools.partial(GrpcConnection, GRPC_PATH)}
# The most that a request may cost, as a ratio to the in-process call of TensorFlow.
LIMITS = {
    "rest": {"mlp": 0.45, "cnn": 0.45, "lstm": 0.25, "transformer": 0.25},
    "grpc": {"mlp": 0.65, "cnn": 0.65, "lstm": 0.35, "transformer": 0.35},
}
TF_SERVING = tomllib.loads(Path(__file__).with_name("tensorflow_serving.toml").read_text())
# Batching for the lstm on TensorFlow: 64 requests in flight fill a batch of 32 twice.
BATCHING = "max_batch_size { value: 32 }\nbatch_timeout_micros { value: 1000 }\nnum_batch_threads { value: 2 }\nmax_enqueued_batches { value: 100 }\n"


async def _closed(port: int, protocol: str, asked: list[Question], concurrency: int, seconds: float) -> Load:
    count = CONNECTIONS[protocol] * concurrency // CONCURRENCY
    connections = await connect(PROTOCOLS[protocol], port, count)
    try:
        return await closed_loop(connections, asked, concurrency=concurrency, seconds=seconds)
    finally:
        connections.close()


async def _open(port: int, protocol: str, asked: list[Question], rate: float, seconds: float) -> Load:
    connections = await connect(PROTOCOLS[protocol], port, CONNECTIONS[protocol] * 4)
    try:
        return await open_loop(connections, asked, rate=rate, seconds=seconds, ramp=0.1)
    finally:
        connections.close()


def _good(load: Load, what: str) -> Load:
    if load.errors:
        raise DeployError(f"{what}: {len(load.errors)} of the requests failed, the first with: {load.errors[0]}")
    return load


class Bench:
    def __init__(self, server: list[str], exports: list[Export], config: Path, *, runs: int, seconds: float) -> None:
        self._server, self._exports, self._config = server, exports, config
        self._runs, self._seconds = runs, seconds
        self._asked = {
            (export.model, protocol): questions(export, protocol) for export in exports for protocol in PROTOCOLS
        }

    @property
    def models(self) -> list[str]:
        return [export.model for export in self._exports]

    def _load(self, served: Served, protocol: str, model: str, seconds: float, concurrency: int = CONCURRENCY) -> Load:
        port = served.rest_port if protocol == "rest" else served.grpc_port
        asked = self._asked[model, protocol]
        return _good(asyncio.run(_closed(port, protocol, asked, concurrency, seconds)), f"{protocol} {model}")

    # ------------------------------------------------------------ start and memory

    def start(self) -> dict[str, float]:
        """Seconds from process start until every model has answered once, median of three; MB before and after load."""
        seconds, fresh = [], 0.0
        for _ in range(3):
            with Served(self._server, self._config) as served:
                for model in self.models:
                    self._load(served, "rest", model, 0.0, 1)
                seconds.append(time.perf_counter() - served.started)
                fresh = served.rss_bytes() / 1e6
        return {"first_answers_s": statistics.median(seconds), "rss_mb": fresh}

    # ------------------------------------------------------------ CPU time

    def cpu(self, served: Served, yardstick: InProcess) -> list[dict[str, Any]]:
        """CPU µs per request and as a ratio to the in-process call of the same round; medians over the rounds."""
        samples: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for number in range(self._runs + 1):  # round 0 warms up
            for model in self.models:
                in_process = yardstick.cpu_us(model, max(50, int(150 * self._seconds)))
                for protocol in PROTOCOLS:
                    before = served.cpu_seconds()
                    load = self._load(served, protocol, model, self._seconds)
                    cost = (served.cpu_seconds() - before) * 1e6 / len(load.latencies)
                    if number:
                        samples.setdefault((protocol, model), []).append((cost, in_process, load.rate))
            say(f"  round {number} of {self._runs}" if number else "  warmed up")
        rows = []
        for (protocol, model), values in sorted(samples.items(), key=lambda item: list(PROTOCOLS).index(item[0][0])):
            there = TF_SERVING["in_process"].get(model)
            rows.append(
                {
                    "protocol": protocol,
                    "model": model,
                    "cpu_us": statistics.median(cost for cost, _, _ in values),
                    "in_process_us": statistics.median(base for _, base, _ in values),
                    "ratio": statistics.median(cost / base for cost, base, _ in values),
                    "rate": statistics.median(rate for *_, rate in values),
                    "limit": LIMITS[protocol].get(model),
                    "tf_serving_ratio": TF_SERVING[protocol][model] / there if there else None,
                    "tf_serving_batching_ratio": TF_SERVING[f"{protocol}_batching"][model] / there if there else None,
                    "tf_serving_us": TF_SERVING[protocol].get(model),
                    "tf_serving_batching_us": TF_SERVING[f"{protocol}_batching"].get(model),
                }
            )
        return rows

    # ------------------------------------------------------------ tail latency

    def tail(self, served: Served) -> list[dict[str, Any]]:
        """p50 and p99 of an open loop at 70 % of the saturation rate; the median of many short runs.

        Short, because a machine's own stalls (see ``stalls``) come twice a second: at this load one of 1 ms keeps the
        requests of 3 ms waiting, so a long run tells the machine's p99 and not the server's. It is told as well.
        """
        rows = []
        for protocol in PROTOCOLS:
            port = served.rest_port if protocol == "rest" else served.grpc_port
            for model in self.models:
                asked = self._asked[model, protocol]
                rate = 0.7 * statistics.median(self._load(served, protocol, model, 0.5).rate for _ in range(3))
                loads = [
                    _good(asyncio.run(_open(port, protocol, asked, rate, TAIL_SECONDS)), f"{protocol} {model}")
                    for _ in range(TAIL_RUNS)
                ]
                p50, p99 = (statistics.median(load.percentile(q) for load in loads) for q in (50, 99))
                rows.append(
                    {
                        "protocol": protocol,
                        "model": model,
                        "rate": rate,
                        "p50_ms": p50 * 1e3,
                        "p99_ms": p99 * 1e3,
                        "ratio": statistics.median(load.percentile(99) / load.percentile(50) for load in loads),
                        "all_p99_ms": float(np.percentile([x for load in loads for x in load.latencies], 99)) * 1e3,
                        "ratios": [load.percentile(99) / load.percentile(50) for load in loads],
                        "n": sum(len(load.latencies) for load in loads),
                    }
                )
        return rows

    # ------------------------------------------------------------ batching

    def batching(self, server: list[str], model: str, parameters: Path) -> dict[str, float]:
        """Answers per second with 64 requests in flight, without and with batching, interleaved; medians."""
        flags = ("--enable_batching=true", f"--batching_parameters_file={parameters}")
        rates: dict[str, list[float]] = {"without": [], "with": []}
        with Served(server, self._config) as plain, Served(server, self._config, *flags) as batching:
            for number in range(self._runs + 1):
                for name, served in (("without", plain), ("with", batching)):
                    rate = self._load(served, "grpc", model, self._seconds, 64).rate
                    if number:
                        rates[name].append(rate)
        without, with_ = (statistics.median(rates[name]) for name in ("without", "with"))
        return {"without_per_s": without, "with_per_s": with_, "ratio": with_ / without}


def say(line: str) -> None:
    print(line, flush=True)


def _progress(cycle: int) -> None:
    if not cycle % 200:
        say(f"  {cycle} of {CYCLES}")


def machine() -> str:
    cpu = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )  # fmt: skip
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def stalls(seconds: float = 2.0) -> tuple[float, float]:
    """What a core loses to others when all are busy: the worst core's share of time, and its longest stall in ms."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        return max(pool.map(_spin, [seconds] * (os.cpu_count() or 1)))


def _spin(seconds: float) -> tuple[float, float]:
    lost, longest, now = 0.0, 0.0, time.perf_counter()
    end = now + seconds
    while now < end:
        before, now = now, time.perf_counter()
        if now - before > 2e-4:
            lost, longest = lost + now - before, max(longest, now - before)
    return lost / seconds, longest * 1e3


def _mark(holds: bool) -> str:
    return "ok" if holds else "MISSED"


def print_cpu(rows: list[dict[str, Any]]) -> int:
    """Prints the table; returns how many rows missed a limit."""
    say("")
    say("CPU time per request, one row, 16 in flight; ratio to one in-process TensorFlow call (1 thread)")
    say("                       server   in-process            limit   TF Serving, elsewhere µs (ratio) answers")
    say("                           µs           µs    ratio               plain       batching        per s")
    missed = 0
    for row in rows:
        best = min(filter(None, (row["tf_serving_us"], row["tf_serving_batching_us"])), default=None)
        holds = (row["limit"] is None or row["ratio"] <= row["limit"]) and (best is None or row["cpu_us"] < best)
        missed += not holds
        recorded = " " * 29
        if best is not None:
            recorded = f"{row['tf_serving_us']:10.0f} ({row['tf_serving_ratio']:.2f}){row['tf_serving_batching_us']:8.0f} ({row['tf_serving_batching_ratio']:.2f})"
        limit = f"{row['limit']:9.2f}" if row["limit"] else " " * 9
        say(
            f"  {row['protocol']:<5}{row['model']:<14}{row['cpu_us']:8.0f}{row['in_process_us']:13.0f}"
            f"{row['ratio']:9.2f}{limit}{recorded}{row['rate']:15.0f}  {_mark(holds)}"
        )
    return missed


def print_tail(rows: list[dict[str, Any]]) -> int:
    say("")
    say(f"Latency at 70 % of the saturation rate, open loop, median of {TAIL_RUNS} runs; p99 at most 3 x p50")
    for row in rows:
        say(
            f"  {row['protocol']:<5}{row['model']:<14}{row['rate']:8.0f}/s   p50 {row['p50_ms']:6.2f} ms   p99 {row['p99_ms']:6.2f} ms"
            f"   ratio {row['ratio']:5.2f}  (of all runs {row['all_p99_ms']:6.2f} ms)  {_mark(row['ratio'] <= 3)}"
        )
    return sum(row["ratio"] > 3 for row in rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="make bench-serving", description=(__doc__ or "").split("\n\n")[0].split(": ", 1)[1]
    )
    parser.add_argument("--server", help="command of another server that takes TF Serving's flags")
    parser.add_argument("--models", default="", help="names with commas; default: all that are published")
    parser.add_argument("--runs", type=int, default=7, help="rounds, whose median counts")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one load")
    parser.add_argument("--only", default="start,cpu,tail,batching,cycles", help="parts, with commas")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    arguments = parser.parse_args(argv)
    parts = set(arguments.only.split(","))
    if parts - PARTS:
        parser.error(
            f"--only={arguments.only}: there is no {', '.join(sorted(parts - PARTS))}; choose from {', '.join(sorted(PARTS))}"
        )
    for name, value in (("--runs", arguments.runs), ("--seconds", arguments.seconds)):
        if not 0 < value < float("inf"):
            parser.error(f"{name}={value} measures nothing; give more than 0")
    light = _command(arguments.server) if arguments.server else [str(model_server("litert"))]
    exports = _newest(arguments.models)
    if not exports:
        raise DeployError(f"there is no model in {artifacts_root()} to ask; run `make publish`")
    figures: dict[str, Any] = {"server": " ".join(light), "machine": machine()}
    say(f"{figures['server']}\non {figures['machine']}")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        config = Path(folder) / "models.config"
        root = artifacts_root()
        served_models = published_models(root)
        config.write_text(config_text(served_models, root / "repository"))
        bench = Bench(light, exports, config, runs=arguments.runs, seconds=arguments.seconds)
        if "start" in parts:
            figures["start"] = start = bench.start()
            holds = start["first_answers_s"] < 1.5, start["rss_mb"] < 250
            missed += 2 - sum(holds)
            say(
                f"\nFrom process start to an answer of each model: {start['first_answers_s']:.2f} s (limit 1.5)  {_mark(holds[0])}"
            )
            say(f"Resident memory with all of them: {start['rss_mb']:.0f} MB (limit 250)  {_mark(holds[1])}")
        if parts & {"cpu", "tail"}:
            with Served(light, config) as served:
                if "cpu" in parts:
                    with InProcess(bench.models) as yardstick:
                        figures["cpu"] = bench.cpu(served, yardstick)
                    missed += print_cpu(figures["cpu"])
                if "tail" in parts:
                    share, longest = figures["stalls"] = stalls()
                    say(
                        f"\nWithout any server a busy core loses {share:.2%} of its time here, up to {longest:.1f} ms at once"
                    )
                    with served.apart():
                        figures["tail"] = bench.tail(served)
                    missed += print_tail(figures["tail"])
                figures["rss_mb_after_load"] = served.rss_bytes() / 1e6
                say(f"\nResident memory after that: {figures['rss_mb_after_load']:.0f} MB")
        if "batching" in parts and "lstm" in bench.models:
            parameters = Path(folder) / "batching.pbtxt"
            parameters.write_text(BATCHING)
            servers = (
                {"server": light}
                if arguments.server
                else {"tensorflow": [str(model_server("tensorflow")), "--prefer_tflite_model=false"], "litert": light}
            )
            say("\nBatching, lstm over gRPC, 64 in flight: answers per second without and with")
            for name, command in servers.items():
                found = figures[f"batching_{name}"] = bench.batching(command, "lstm", parameters)
                verdict = "" if name == "litert" else f"  {_mark(found['ratio'] >= 2)} (limit 2)"
                missed += name != "litert" and found["ratio"] < 2
                say(
                    f"  {name:<12}{found['without_per_s']:8.0f}{found['with_per_s']:8.0f}   ratio {found['ratio']:.2f}{verdict}"
                )
        if "cycles" in parts and not arguments.server and "mlp" in bench.models:
            say(f"\nMemory over {CYCLES} versions of the mlp, one after the other")
            resident = resident_by_cycle(
                ["mlp"], CYCLES, "litert", root / "repository", Path(folder) / "cycles", _progress
            )
            figures["cycles"] = {"first_mb": resident[0] / 1e6, "last_mb": resident[-1] / 1e6}
            growth = resident[-1] / resident[0] - 1
            missed += growth >= 0.05
            say(
                f"  {resident[0] / 1e6:.1f} MB → {resident[-1] / 1e6:.1f} MB ({growth:+.1%}, limit 5 %)  {_mark(growth < 0.05)}"
            )
    if arguments.json:
        write_json(arguments.json, figures)
        say(f"\nfigures: {arguments.json}")
    if missed:
        say(f"\n{missed} figures miss their limits")
        sys.exit(1)


def _command(text: str) -> list[str]:
    """Raises DeployError where there is no such program."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise DeployError(f"--server={text} is no command: {error}; check its quotes") from None
    if not words or not shutil.which(words[0]):
        raise DeployError(f"--server={text} names no program that can be run; give its path and flags")
    return words


def _newest(names: str) -> list[Export]:
    wanted = [name.strip() for name in names.split(",") if name.strip()] or None
    return list({export.model: export for export in find_exports(models=wanted)}.values())


if __name__ == "__main__":
    run_cli(main)
