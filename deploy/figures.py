"""How long the commands of the README take: ``python -m deploy.figures measure|write``.

``measure`` runs them in clean clones of the last commit, in a temporary folder, on ports of their own, and keeps what
they took in ``docs/figures.json`` with commit, date and machine. ``write`` puts that into the README. No figure is typed.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.ports import free_ports
from deploy.timed import Spent
from models.artifacts import REPOSITORY, read_json, write_json
from models.errors import DeployError, interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FILE = REPOSITORY / "docs" / "figures.json"
README = REPOSITORY / "README.md"
VERDICT = "✓"  # the mark of the first row that the comparison has judged
SHOWN = "cnn v2"  # the model whose verdicts the README shows


def provenance() -> dict[str, str]:
    """Commit, date and machine, as they stand in a file of recorded figures."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True)
    return {
        "commit": done.stdout.strip() or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {processor()}, Python {platform.python_version()}",
    }


def processor() -> str:
    """The processor's name, as Linux tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


class Clone:
    """A clean clone of the last commit, and what its commands took. Its environments and artefacts are its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "export-once"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, self.folder], check=True)
        self.log = folder / "log"  # of the last command
        self.environment = {**os.environ, **_free_ports()}
        for name in ("ARTIFACTS", "REPORTS", "MODELS", "TARGETS", "VERSIONS", "MAKE_RUN", "MAKEFLAGS", "MAKELEVEL"):
            self.environment.pop(name, None)

    def run(self, *command: str) -> tuple[float, float | None]:
        """Seconds of a command, and seconds until it told its first verdict. Raises DeployError when it fails."""
        print(f"$ {' '.join(command)}    (in {self.folder})", flush=True)
        start, first = time.monotonic(), None
        with self.log.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            assert process.stdout
            said = b""
            while piece := os.read(process.stdout.fileno(), 65536):
                file.write(piece.decode(errors="replace"))
                said = (said + piece)[-65536:]
                if first is None and VERDICT.encode() in said:
                    first = time.monotonic() - start
        if process.wait():
            raise DeployError(f"{' '.join(command)} failed with exit code {process.returncode}; its end:\n{self.end()}")
        seconds = time.monotonic() - start
        print(f"  {duration(seconds)}", flush=True)
        return seconds, first

    def end(self) -> str:
        return "\n".join(self.log.read_text().splitlines()[-30:])

    def steps(self) -> dict[str, Spent]:
        found = read_json(self.folder / "artifacts" / "times.json")
        return {name: Spent(**spent) for name, spent in found["steps"].items()}


def measure_demo(clone: Clone) -> dict[str, Any]:
    """From nothing, and again with nothing changed."""
    try:
        whole, first = clone.run("make", "deploy-all", "demo")
        steps, verdicts = clone.steps(), verdicts_in(clone.log.read_text())
        deploy_all = whole - (steps["compare"].end - steps["compare"].start)
        again, _ = clone.run("make", "deploy-all", "demo")
    finally:
        clone.run("make", "down")
    assert first is not None
    return {
        "demo": round(whole),
        "demo_deploy_all": round(deploy_all),
        "demo_first_verdict": round(first - deploy_all),
        "demo_cpu": round(sum(spent.cpu for spent in steps.values())),
        "demo_again": round(again),
        "verdicts": verdicts,
    }


def verdicts_in(log: str) -> list[str]:
    """The rows of one model in the table of verdicts, its head above and the counts below."""
    lines = [line.rstrip() for line in log.splitlines()]
    start = lines.index(SHOWN)
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("  "))
    counts = next(line for line in lines if " passed, " in line)
    return [lines[start - 1], *lines[start:end], counts.partition("  report:")[0]]


def measure_tests(clone: Clone) -> dict[str, Any]:
    """With the artefacts built."""
    clone.run("make", "build", "serving/server/.venv-tensorflow")
    return {"test_fast": round(clone.run("make", "test-fast")[0]), "test_built": round(clone.run("make", "test")[0])}


def measure_ci(clone: Clone) -> dict[str, Any]:
    """From nothing; ``make test`` is its first part."""
    seconds, _ = clone.run(".ci/run")
    parts = read_json(clone.folder / "artifacts" / "ci-times.json")
    return {"ci": round(seconds), "test": parts["make test"]}


MEASURES: dict[str, Callable[[Clone], dict[str, Any]]] = {
    "demo": measure_demo,
    "tests": measure_tests,
    "ci": measure_ci,
}


def measure(names: Sequence[str]) -> None:
    """Each in a clone of its own; a figure is kept as soon as it is there."""
    for name in names:
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix="figures-") as folder:
            found = MEASURES[name](Clone(Path(folder)))
        kept: dict[str, Any] = read_json(FILE) if FILE.is_file() else {"schema": 1, "figures": {}}
        where = {**provenance(), "load_before": round(load, 1)}
        kept["figures"].update({figure: {"value": value, **where} for figure, value in found.items()})
        write_json(FILE, kept)
    print(f"figures: {FILE}; make readme-figures writes them into the README")


def times() -> str:
    """How long the commands take."""
    figures = read_json(FILE)["figures"]

    def told(name: str) -> str:
        return duration(figures[name]["value"])

    rows = [
        (
            "`make deploy-all demo`, from nothing",
            told("demo"),
            f"deploy-all {told('demo_deploy_all')}, the first verdict {told('demo_first_verdict')} later",
        ),
        ("`make deploy-all demo`, nothing changed", told("demo_again"), ""),
        ("`make test`, from nothing", told("test"), f"{told('test_built')} with the artefacts built"),
        ("`make test-fast`, artefacts built", told("test_fast"), ""),
        ("`.ci/run`, from nothing", told("ci"), "lint, `make test`, `make test-ci`"),
    ]
    lines = ["| command | takes | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join([*lines, f"Packages already downloaded. Measured: {sources()}.", ""])


def verdicts() -> str:
    """What the comparison says of one model."""
    return "\n".join(["```", *read_json(FILE)["figures"]["verdicts"]["value"], "```", ""])


def sources() -> str:
    """Where the figures come from, each source once."""
    found = {
        f"commit {f['commit']}, {f['date']}, {f['machine']}, load average before it {f['load_before']}"
        for f in read_json(FILE)["figures"].values()
    }
    return "; ".join(sorted(found))


PARTS = {"times": times, "verdicts": verdicts}


def with_figures(readme: str) -> str:
    """The README with its measured parts replaced. Raises DeployError where a mark is missing."""
    for name, part in PARTS.items():
        begin, end = f"<!-- {name}: written by `make readme-figures` -->\n", f"<!-- end of {name} -->\n"
        before, found, rest = readme.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise DeployError(f"{README} lacks the line {begin.strip()} or {end.strip()}; put both back")
        readme = f"{before}{begin}\n{part()}\n{end}{after}"
    return readme


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _free_ports() -> dict[str, str]:
    names = ("GRPC_PORT", "REST_PORT", "WEB_PORT", "EDGE_PORT")
    return dict(zip(names, map(str, free_ports(len(names))), strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.figures", description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="run the commands in clean clones and keep what they take")
    measuring.add_argument("--only", default=",".join(MEASURES), help=f"comma-separated: {', '.join(MEASURES)}")
    commands.add_parser("write", help="put the recorded figures into the README")
    options = parser.parse_args(argv)
    if options.command == "write":
        README.write_text(with_figures(README.read_text()))
        print(f"figures of {FILE} written into {README}")
        return
    names = [name.strip() for name in options.only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in MEASURES]:
        raise DeployError(f"unknown measurement {', '.join(unknown)}; choose from {', '.join(MEASURES)}")
    measure(names)


if __name__ == "__main__":
    interruptible()
    run_cli(main)
