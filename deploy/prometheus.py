"""Prometheus beside the deployment: where it is found, how it is got, and what it is started with.

``python -m deploy.prometheus --port 9090 --data DIR serving=HOST:PORT edge=HOST:PORT …`` becomes Prometheus, on loopback.
Debian's package would start a service of its own on every address of the machine, so it is only unpacked.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.programs import DOWNLOAD_S, UPDATE_S, run_within
from models.artifacts import REPOSITORY, write_whole
from models.errors import DeployError, run_cli

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = Path(__file__).resolve().parent / "monitoring"  # prometheus.yml, rules.yml
UNPACKED = REPOSITORY / ".venv" / "prometheus"
WITHOUT = "`make monitor` and its tests are skipped"
REMEDY = "run `apt-get install prometheus` as root"
RETENTION = ("--storage.tsdb.retention.time=6h", "--storage.tsdb.retention.size=256MB")  # one of the two is enough


def find(program: str = "prometheus") -> str | None:
    """``prometheus`` or ``promtool``: on PATH, or as set-up unpacked it; None when it is not here."""
    return shutil.which(program) or shutil.which(program, path=str(UNPACKED / "usr" / "bin"))


def missing() -> str:
    """Why there is no monitoring here and what to do about it; empty when there is Prometheus."""
    return "" if find() else f"no prometheus here, so {WITHOUT}; {REMEDY}"


def make_prometheus(tried: Path) -> None:
    """Unpack Debian's package where there is none; set-up goes on without it. ``tried``: the network was asked already."""
    if find() or tried.exists():
        return
    tried.touch()
    print("setup: getting Prometheus with apt-get", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        # apt-get fetches as a user of its own, who must be able to write there.
        Path(folder).chmod(0o777)
        try:
            if os.geteuid() == 0:
                _run(UPDATE_S, "apt-get", "update", "-qq", folder=folder)
            _run(DOWNLOAD_S, "apt-get", "download", "-qq", "prometheus", *_page_packages(folder), folder=folder)
            with write_whole(UNPACKED) as temporary:
                for package in sorted(Path(folder).glob("*.deb")):
                    _run(DOWNLOAD_S, "dpkg-deb", "--extract", package, temporary, folder=folder)
                # 212 MB that the page's scripts were made from.
                shutil.rmtree(temporary / "usr/share/javascript/moment-timezone/data", ignore_errors=True)
        except DeployError as error:
            print(f"setup: {missing()} ({error})", flush=True)


def _page_packages(folder: str) -> list[str]:
    """What Debian's Prometheus takes the scripts of its web page from."""
    ask = ("apt-cache", "depends", "--recurse", "--important", "--no-suggests", "prometheus")
    listed = _run(UPDATE_S, *ask, folder=folder)
    names = {line.strip() for line in listed.splitlines() if line.startswith(("libjs-", "fonts-"))}
    return sorted(names)


def _run(seconds: float, *command: str | Path, folder: str) -> str:
    done = run_within(seconds, *command, folder=folder)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DeployError(f"{command[0]}: {lines[-1]}")
    return done.stdout


def configuration(targets: Mapping[str, str], *, rules: Path, interval: str = "") -> str:
    """prometheus.yml with ``targets`` (job → host:port) in place of the containers' and, if given, another interval."""
    import yaml  # of the root environment; set-up runs without one

    content = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in content["scrape_configs"]}
    if jobs.keys() != targets.keys():
        raise DeployError(f"prometheus.yml has the jobs {', '.join(jobs)}; name an address for each, not {targets}")
    for name, job in jobs.items():
        job["static_configs"] = [{"targets": [targets[name]]}]
    content["rule_files"] = [str(rules)]
    if interval:
        content["global"] = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    return yaml.safe_dump(content, sort_keys=False)


def command(*, port: int, data: Path, config: Path) -> list[str]:
    """What runs Prometheus on loopback. Raises DeployError where there is none."""
    program = find()
    if program is None:
        raise DeployError(missing())
    assets = UNPACKED / "usr" / "share" / "prometheus" / "web"
    return [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
        *RETENTION,
        *([f"--web.local-assets={assets}"] if program.startswith(str(UNPACKED)) else []),
    ]


def alerts(address: str) -> list[tuple[str, str]]:
    """(alert, state) of a running Prometheus: inactive, pending or firing. Raises DeployError when it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/api/v1/rules?type=alert", timeout=10) as answer:
            groups = json.load(answer)["data"]["groups"]
    except (OSError, ValueError, KeyError) as error:
        raise DeployError(f"Prometheus does not answer at {address} ({error}); see its log") from None
    return [(rule["name"], rule["state"]) for group in groups for rule in group["rules"]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.prometheus", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="its configuration and what it keeps")
    parser.add_argument("targets", nargs="+", metavar="JOB=HOST:PORT", help="where each job of prometheus.yml is asked")
    options = parser.parse_args(argv)
    targets: dict[str, str] = dict(target.partition("=")[::2] for target in options.targets)
    options.data.mkdir(parents=True, exist_ok=True)
    config = options.data / "prometheus.yml"
    with write_whole(config) as temporary:
        temporary.write_text(configuration(targets, rules=FOLDER / "rules.yml"))
    arguments = command(port=options.port, data=options.data / "data", config=config)
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    run_cli(main)
