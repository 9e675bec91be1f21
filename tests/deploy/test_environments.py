"""The set-up on a small environment: made once, made again when its lock changes, mended when it was interrupted."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import environments
from deploy.environments import Environment, find_python, load_environments, make_environment, uv_path
from deploy.programs import PROGRAMS, make_programs, run_within
from models.artifacts import REPOSITORY
from models.errors import DeployError
from tests.commands import run_command
from tests.deploy.waiting import eventually

VERSION = f"3.{sys.version_info[1]}"
LOCK = (REPOSITORY / "requirements.txt").read_text()


def pin(name: str) -> str:
    """The lines of one package in the root's lock; it is in uv's cache, because the root environment has it."""
    found = re.search(rf"^{name}==.*?(?=^\S)", LOCK, re.MULTILINE | re.DOTALL)
    assert found
    return found.group()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    (tmp_path / "small" / "deploy").mkdir(parents=True)
    (tmp_path / "small" / "pyproject.toml").write_text('[project]\nname = "small"\nversion = "1"\n')
    (tmp_path / "small" / "requirements.txt").write_text(pin("iniconfig"))
    return Environment(name="small", python=(VERSION,), lock="requirements.txt", root=tmp_path)


def has(environment: Environment, package: str) -> bool:
    return subprocess.run([environment.interpreter, "-c", f"import {package}"], capture_output=True).returncode == 0


def test_environment_is_made_once_and_again_when_its_lock_changes(
    environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    make_environment(environment)
    assert has(environment, "iniconfig")
    assert environment.is_current()
    capsys.readouterr()
    make_environment(environment)
    assert capsys.readouterr().out == "", "nothing to do"

    (environment.folder / environment.lock).write_text(pin("iniconfig") + pin("idna"))
    assert not environment.is_current()
    make_environment(environment)
    assert has(environment, "idna")


@pytest.mark.parametrize("damage", ["stamp", "half", "interpreter", "moved"])
def test_environment_that_was_interrupted_is_mended(environment: Environment, damage: str) -> None:
    make_environment(environment)
    stamp = environment.path / ".made-from"
    if damage == "stamp":
        stamp.unlink()
    elif damage == "half":
        shutil.rmtree(environment.path / "lib")
        stamp.unlink()
    elif damage == "interpreter":
        environment.interpreter.unlink()
    else:
        activate = environment.path / "bin" / "activate"
        activate.write_text(activate.read_text().replace(str(environment.path), "/somewhere/else"))
        stamp.write_text("made there")
    assert not environment.is_current()
    make_environment(environment)
    assert environment.is_current()
    assert has(environment, "iniconfig")


def test_lock_with_a_wrong_hash_is_refused(environment: Environment) -> None:
    text = re.sub(r"sha256:\w+", "sha256:" + "0" * 64, pin("iniconfig"))
    (environment.folder / environment.lock).write_text(text)
    with pytest.raises(DeployError, match=r"uv pip sync.* failed: .*run `make setup` again"):
        make_environment(environment)
    assert not environment.is_current()


def test_optional_environment_without_its_python_is_skipped_with_the_reason(
    environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    there_is_none = Environment(
        name="small", python=("3.2",), lock="requirements.txt", optional="its rows are skipped", root=environment.root
    )
    make_environment(there_is_none)
    reason = there_is_none.reason_file.read_text()
    assert "no Python 3.2 here" in reason
    make_environment(there_is_none)
    assert capsys.readouterr().out.count("its rows are skipped") == 2
    assert there_is_none.reason_file.read_text() == reason
    make_environment(environment)
    assert not environment.reason_file.exists(), "the reason goes when the environment is made"


def test_unknown_name_is_one_sentence_that_lists_what_there_is() -> None:
    done = run_command(environments.main, "web", "nope", "attic")
    assert done.returncode == 2
    known = "., serving/server, edge, edge/tflite-runtime, web, web/converter, serving/server#tensorflow, web/demo, programs"
    assert done.stderr == f"error: unknown environment attic, nope; there are {known}\n"
    assert done.stdout == "", "nothing was made before"


SMALL = f'python = ["{VERSION}"]\nlock = "requirements.txt"\n'


class Command:
    """``python -m deploy.environments`` of a repository with two small environments, and one on demand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("deploy/__init__", "deploy/environments", "deploy/programs", "deploy/prometheus"):
            self.write(f"{name}.py", (REPOSITORY / f"{name}.py").read_text())
        for name in ("models/__init__", "models/errors", "models/artifacts"):
            self.write(f"{name}.py", (REPOSITORY / f"{name}.py").read_text())
        self.write("deploy/environments.toml", f"[one]\n{SMALL}\n[two]\n{SMALL}\n[later]\n{SMALL}on_demand = true\n")
        for name in ("one", "two", "later"):
            self.write(f"{name}/pyproject.toml", f'[project]\nname = "{name}"\nversion = "1"\n')
            self.write(f"{name}/requirements.txt", pin("iniconfig"))
        # npm's packages are there, and Debian's programs were asked for before: none of them is got over the network.
        self.write("web/demo/package-lock.json", "{}")
        self.write("web/demo/package.json", "{}")
        self.write("web/demo/node_modules/.made-from", hashlib.sha256(b"{}{}").hexdigest())
        for name in ("prometheus", "browser", "programs"):
            self.write(f".venv/.{name}-tried", "".join(f"{program.name}\n" for program in PROGRAMS))

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def start(self, *names: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.environments", *names],
            cwd=self.root,
            env={**os.environ, "UV": uv_path()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *names: str) -> str:
        process = self.start(*names)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        return said

    def made(self) -> set[str]:
        return {path.parent.parent.name for path in self.root.glob("*/.venv/.made-from")}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path / "repository")


@pytest.mark.slow
def test_names_choose_and_without_one_all_but_those_on_demand_are_made(command: Command) -> None:
    assert command.run("web/demo", "programs") == ""
    assert command.made() == set()
    (command.root / "web/demo/node_modules/.made-from").unlink()
    process = command.start("web/demo")
    said, _ = process.communicate()
    assert said.startswith("setup: web/demo/node_modules …"), "npm's packages, which nothing here can install"
    command.write("web/demo/node_modules/.made-from", hashlib.sha256(b"{}{}").hexdigest())
    said = command.run()
    assert [line.split()[1] for line in said.splitlines() if "made in" in line] == ["one/.venv", "two/.venv"]
    assert command.made() == {"one", "two"}
    assert command.run() == ""
    assert "later/.venv made" in command.run("later")


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="this system does not tell who waits for a lock")
def test_two_at_the_same_time_wait_for_each_other_environment_by_environment(command: Command) -> None:
    def waiting() -> set[int]:
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return {int(words[5]) for words in lines if words[1] == "->"}

    with (command.root / "one" / "requirements.txt").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [command.start("one") for _ in range(2)]
        eventually(lambda: {process.pid for process in both} <= waiting(), "two that wait")
        assert "two/.venv made" in command.run("two"), "another environment is not waited for"
        assert [process.poll() for process in both] == [None, None]
        assert command.made() == {"two"}
    said = sorted(process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0] == "", "the second finds it made"
    assert "one/.venv made in" in said[1]
    assert command.made() == {"one", "two"}


def test_find_python_of_a_version_that_is_nowhere_names_the_remedy() -> None:
    with pytest.raises(DeployError, match=r"no Python 3\.2 here.*apt-get install python3\.2"):
        find_python(("3.2",))


def test_server_gets_a_python_whose_library_can_be_loaded() -> None:
    server = next(e for e in load_environments() if e.name == "serving/server")
    python = find_python(server.python, shared=True)
    probe = "import sysconfig as s; print(s.get_config_var('Py_ENABLE_SHARED'))"
    assert subprocess.run([python, "-c", probe], capture_output=True, text=True).stdout.strip() == "1"


def test_programs_that_cannot_be_installed_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # neither the programs nor apt-get
    make_programs(tmp_path / "tried")
    said = capsys.readouterr().out
    for program in PROGRAMS:
        assert f"setup: no {program.name} here: {program.without}; apt-get install {program.package} (as root)" in said
    make_programs(tmp_path / "tried")
    assert capsys.readouterr().out == ""


def test_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    def child_is_gone() -> bool:
        try:
            return os.read(reader, 1) == b""  # nobody has it open for writing
        except BlockingIOError:
            return False

    try:
        with pytest.raises(DeployError, match=r"sh -c: not done within 0\.5 s"):
            run_within(0.5, "sh", "-c", f"sleep 600 > {fifo} & wait")
        eventually(child_is_gone, "the child's end")
    finally:
        os.close(reader)
