"""How long the commands of the README take: ``python -m deploy.figures measure|write``.

``measure`` runs them in clean clones of the last commit, in a temporary folder, on ports of their own, and keeps what
they took in ``docs/figures.json`` with commit, date and machine. ``write`` puts that into the README. No figure is typed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.ports import free_ports
from deploy.timed import Spent
from models.artifacts import REPOSITORY, read_json, reports_root, write_json
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
            kept = reports_root() / "figures.log"
            kept.parent.mkdir(exist_ok=True)
            shutil.copy(self.log, kept)
            raise DeployError(f"{' '.join(command)} failed with exit code {process.returncode}; see {kept}")
        seconds = time.monotonic() - start
        print(f"  {duration(seconds)}", flush=True)
        return seconds, first

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


def measure_ci(clone: Clone) -> dict[str, Any]:
    """CI from nothing; its first parts are what ``make test`` does from nothing. Then the quick loop.

    How long each test file took is kept too: it is the order of the next run.
    """
    clone.environment["RECORD_DURATIONS"] = "one run of CI"
    seconds, _ = clone.run(".ci/run")
    parts = read_json(clone.folder / "artifacts" / "ci-times.json")
    built = next(seconds for part, seconds in parts.items() if part.startswith("make build"))
    shutil.copy(clone.folder / "tests" / "durations.json", REPOSITORY / "tests")
    del clone.environment["RECORD_DURATIONS"]
    fast, _ = clone.run("make", "test-fast")
    return {
        "ci": round(seconds),
        "test": built + parts["make test"],
        "test_built": parts["make test"],
        "test_fast": round(fast),
    }


MEASURES: dict[str, Callable[[Clone], dict[str, Any]]] = {"demo": measure_demo, "ci": measure_ci}


def measure(names: Sequence[str]) -> None:
    """Each in a clone of its own; a figure is kept as soon as it is there."""
    for name in names:
        # What is measured is a clone of the last commit, whatever has changed here since.
        commit = provenance()["commit"].removesuffix("-dirty")
        where = {**provenance(), "commit": commit, "load_before": round(os.getloadavg()[0], 1)}
        with tempfile.TemporaryDirectory(prefix="figures-") as folder:
            found = MEASURES[name](Clone(Path(folder)))
        kept: dict[str, Any] = read_json(FILE) if FILE.is_file() else {"schema": 1, "figures": {}}
        kept["figures"].update({figure: {"value": value, **where} for figure, value in found.items()})
        write_json(FILE, kept)
    print(f"figures: {FILE}; make readme-figures writes them into the README")


def times() -> str:
    """How long the commands take."""
    figures = read_json(FILE)["figures"]

    rows = {
        "demo": (
            "`make deploy-all demo`, from nothing",
            "deploy-all {demo_deploy_all}, the first verdict {demo_first_verdict} later",
        ),
        "demo_again": ("`make deploy-all demo`, nothing changed", ""),
        "test": ("`make test`, from nothing", "{test_built} with the artefacts built"),
        "test_fast": ("`make test-fast`, artefacts built", ""),
        "ci": ("`.ci/run`, from nothing", "`make test`, `make lint`, `make test-ci`"),
    }
    told = {name: duration(f["value"]) for name, f in figures.items() if name != "verdicts"}
    told_rows = [
        f"| {command} | {told[name]} | {more.format(**told)} |"
        for name, (command, more) in rows.items()
        if name in told
    ]
    lines = ["| command | takes | |", "|---|---|---|", *told_rows, ""]
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
