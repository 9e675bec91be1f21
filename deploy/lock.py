"""Compile every lock, and write its pins into its pyproject.toml: ``make lock`` (``UPGRADE=1`` moves to newer versions).

requirements.txt is the lock: every version and hash, for every platform, extras and build backend included.
``[tool.uv] constraint-dependencies`` repeats its pins, so that a bare ``uv run --project …`` resolves to the same versions.
``--check`` compares what stands there, without network.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.environments import REPOSITORY, Environment, load_environments, uv_path
from models.errors import DeployError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN = "# The pins of {lock}, written by `make lock`."
BLOCK = re.compile(
    r"# The pins of [^\n]*written by `make lock`\.\n(?:build-)?constraint-dependencies = \[.*?\n\]\n(?:build-constraint-dependencies = \[.*?\]\n)?",
    re.DOTALL,
)
ADDRESS = re.compile(r"https?://|--(?:extra-)?index-url|--find-links|@ file:")


def read_pins(lock: Path) -> list[str]:
    """The ``name==version ; marker`` lines of a lock, in its order."""
    pins = []
    for line in lock.read_text().splitlines():
        if line and not line.startswith((" ", "#", "-")):
            pins.append(line.removesuffix("\\").strip())
    return pins


def read_constraints(pyproject: Path) -> list[str]:
    return tomllib.loads(pyproject.read_text()).get("tool", {}).get("uv", {}).get("constraint-dependencies", [])


def with_constraints(text: str, pins: list[str], lock: str) -> str:
    """pyproject.toml's ``text`` with ``pins`` as constraints; the build backend's pin is one for building too."""
    text = without_constraints(text)
    build = [pin for pin in pins if pin.startswith("setuptools==")]
    lines = [BEGIN.format(lock=lock), "constraint-dependencies = [", *(f"    {json.dumps(p)}," for p in pins), "]"]
    if build:
        lines.append(f"build-constraint-dependencies = {json.dumps(build)}")
    block = "\n".join(lines) + "\n"
    if "\n[tool.uv]\n" not in text:
        return f"{text.rstrip()}\n\n[tool.uv]\n{block}"
    return text.replace("\n[tool.uv]\n", f"\n[tool.uv]\n{block}", 1)


def without_constraints(text: str) -> str:
    return BLOCK.sub("", text)


def compile_lock(environment: Environment, *, upgrade: bool, constraint: Path | None) -> None:
    """Compile ``environment``'s lock from its pyproject.toml; pins that still fit stay, unless ``upgrade``."""
    pyproject, lock = environment.folder / "pyproject.toml", environment.folder / environment.lock
    text = without_constraints(pyproject.read_text())
    groups = tomllib.loads(text).get("dependency-groups", {})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "pyproject.toml").write_text(text)
        if lock.exists():
            shutil.copy(lock, folder / lock.name)
        command = [uv_path(), "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
        command += ["--no-emit-index-url", "--no-header", "--python-version", environment.python[0]]
        command += [f"--extra={e}" for e in environment.extras] + [f"--group={g}" for g in groups]
        if constraint:
            command += ["--constraint", str(constraint)]
        command += ["--upgrade"] if upgrade else []
        done = subprocess.run([*command, "pyproject.toml", "-o", lock.name], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise DeployError(f"{lock.relative_to(environment.root)} cannot be resolved:\n{done.stderr.strip()}")
        compiled = (
            (folder / lock.name).read_text().replace(f"-c {constraint}", f"-c {constraint.name}" if constraint else "")
        )
        lock.write_text(f"# Made by `make lock` from pyproject.toml; do not edit.\n{compiled}")


def pairs(environments: list[Environment]) -> list[tuple[Environment, Environment | None]]:
    """Each environment with the one of the same folder that has more in it: the lesser is compiled within its pins."""
    richest = {e.folder: e for e in sorted(environments, key=lambda e: len(e.extras))}
    ordered = sorted(environments, key=lambda e: -len(e.extras))
    return [(e, richest[e.folder] if richest[e.folder] is not e else None) for e in ordered]


def check(environment: Environment, richest: Environment | None) -> list[str]:
    """What is wrong with one lock, in sentences; empty when nothing is."""
    pyproject, lock = environment.folder / "pyproject.toml", environment.folder / environment.lock
    name = lock.relative_to(environment.root)
    if not lock.exists():
        return [f"{name} is missing"]
    pins, constraints = set(read_pins(lock)), set(read_constraints(pyproject))
    wrong = [f"{name} names an address: {line}" for line in lock.read_text().splitlines() if ADDRESS.search(line)]
    if richest is None and pins != constraints:
        differ = sorted(pins ^ constraints)
        wrong.append(
            f"{name} and the constraints of its pyproject.toml differ in {len(differ)} pins, first {differ[0]}"
        )
    if richest is not None and (other := sorted(pins - constraints)):
        wrong.append(f"{name} has other pins than {richest.lock}: {other[0]}")
    if missing := _not_pinned(pyproject, environment, {pin.partition("==")[0] for pin in pins}):
        wrong.append(f"{name} lacks {', '.join(missing)}, which pyproject.toml asks for")
    return wrong


def _not_pinned(pyproject: Path, environment: Environment, pinned: set[str]) -> list[str]:
    data = tomllib.loads(pyproject.read_text())
    wanted = [*data["project"].get("dependencies", [])]
    for extra in environment.extras:
        wanted += data["project"]["optional-dependencies"][extra]
    for group in data.get("dependency-groups", {}).values():
        wanted += [r for r in group if isinstance(r, str)]
    wanted += [r for r in data.get("build-system", {}).get("requires", []) if environment.project]
    names = {re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0] for requirement in wanted}
    return sorted(n for n in names if re.sub(r"[-_.]+", "-", n).lower() not in pinned)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.lock", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 2 when a lock and its pins differ")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="the repository")
    arguments = parser.parse_args(argv)
    known = [(e, r) for e, r in pairs(load_environments(arguments.root)) if (e.folder / "pyproject.toml").exists()]
    if not arguments.check:
        for environment, richest in known:
            print(f"lock: {environment.folder.relative_to(arguments.root) / environment.lock}", flush=True)
            constraint = richest.folder / richest.lock if richest else None
            compile_lock(environment, upgrade=arguments.upgrade, constraint=constraint)
            if richest is None:
                pyproject = environment.folder / "pyproject.toml"
                pins = read_pins(environment.folder / environment.lock)
                pyproject.write_text(with_constraints(pyproject.read_text(), pins, environment.lock))
        if arguments.root == REPOSITORY:
            lock_uv(upgrade=arguments.upgrade)
    wrong = [line for environment, richest in known for line in check(environment, richest)]
    if wrong:
        raise DeployError("; ".join(wrong) + "; run `make lock`")
    print(f"{len(known)} locks agree with their pyproject.toml")
    return 0


def lock_uv(*, upgrade: bool) -> None:
    """Pin the uv that the set-up installs where there is none."""
    command = [
        uv_path(),
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--generate-hashes",
        "--no-header",
    ]
    command += ["--no-emit-index-url", "--no-annotate", *(["--upgrade"] if upgrade else []), "uv.in", "-o", "uv.txt"]
    subprocess.run(command, cwd=REPOSITORY / "deploy", check=True)


if __name__ == "__main__":
    run_cli(main)
