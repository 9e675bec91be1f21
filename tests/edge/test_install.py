"""A bundle for this machine, installed by its own script, without network, and pushed over a real ssh connection."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from deploy import bundle
from deploy.bundle import NAME, make_bundle
from deploy.push import machine_of, push
from deploy.wheels import MACHINES, Machine
from models.errors import DeployError
from tests.conftest import pick_free_port
from tests.edge.service import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from export.bundle import Export

ARCH = platform.machine()
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
SIZE_LIMIT = 180e6  # bytes, of what is installed
# In a network namespace of its own there is nothing but loopback.
ALONE = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, exports: dict[tuple[str, int], Export]
) -> Iterator[Path]:
    """Wheels for this Python alone, kept between runs in pytest's own cache."""
    if ARCH not in MACHINES:
        pytest.skip(f"there are no bundles for {ARCH}")
    root = tmp_path_factory.mktemp("bundle") / "artifacts"
    (root / "edge").mkdir(parents=True)
    (root / "edge" / "wheels").symlink_to(pytestconfig.cache.mkdir("edge-wheels"))
    for name in ("evidence", "lite"):
        (root / name).symlink_to(next(iter(exports.values())).root / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARTIFACTS", str(root))
        patch.setitem(MACHINES, ARCH, Machine(arch=ARCH, pythons={PYTHON: MACHINES[ARCH].pythons.get(PYTHON, 36)}))
        yield make_bundle(ARCH, models=["mlp", "cnn"], variants=["int8"])


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder / NAME


def install(source: Path, *options: object, before: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*(before or []), "sh", source / "install.sh", "--no-service", "--python", sys.executable, *options]
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=280)


def resum(source: Path) -> None:
    """SHA256SUMS of a bundle that a test has changed."""
    names = [line.split("  ")[1] for line in (source / "SHA256SUMS").read_text().splitlines()]
    done = subprocess.run(["sha256sum", *names], cwd=source, capture_output=True, text=True, check=True)
    (source / "SHA256SUMS").write_text(done.stdout)


def size_of(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@contextlib.contextmanager
def started(output: str, prefix: Path) -> Iterator[httpx.Client]:
    """The service, started by the command that install.sh printed, on loopback; the client has the token."""
    (line,) = (line for line in output.splitlines() if line.startswith("start:"))
    command = shlex.split(line.removeprefix("start:"))
    command[command.index("--bind") + 1] = "127.0.0.1"
    port = int(command[command.index("--port") + 1])
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    headers = {"Authorization": f"Bearer {(prefix / 'token').read_text().strip()}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:

            def answers() -> bool:
                assert process.poll() is None
                with contextlib.suppress(httpx.TransportError):
                    return client.get("/healthz").status_code == 200
                return False

            wait_for(answers)
            yield client
    finally:
        process.terminate()
        process.wait(60)


def test_bundle_installs_without_network_answers_upgrades_and_goes(unpacked: Path, tmp_path: Path):
    prefix, port = tmp_path / "device", pick_free_port()
    before = ALONE if subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0 else None
    done = install(unpacked, "--prefix", prefix, "--port", port, before=before)
    assert done.returncode == 0, done.stderr
    token = (prefix / "token").read_text()
    assert stat.S_IMODE((prefix / "token").stat().st_mode) == 0o600
    assert f"http://127.0.0.1:{port}/v1/models" in done.stdout
    release = (prefix / "current").resolve()
    assert size_of(release) < SIZE_LIMIT, f"{size_of(release) / 1e6:.0f} MB"
    with started(done.stdout, prefix) as client:
        assert {m["name"] for m in client.get("/v1/models").json()["models"]} == {"mlp", "cnn"}
        body = {"instances": [[1.0] * 30]}
        assert client.post("/v1/models/mlp:predict", json=body).status_code == 200
        assert httpx.post(client.base_url.join("/v1/models/mlp:predict"), json=body).status_code == 401

        # What does not start changes nothing; an upgrade that does keeps token, port and the release before.
        broken = install(unpacked, "--prefix", prefix, "--variant", "int4")
        assert broken.returncode == 2
        assert "has no model with the variant 'int4'" in broken.stderr
        assert "error: the new release does not work here, so nothing was changed" in broken.stderr
        assert (prefix / "current").resolve() == release

        upgrade = shutil.copytree(unpacked, tmp_path / "upgrade")
        with (upgrade / "edge" / "app.py").open("a") as app:
            app.write("# newer\n")
        resum(upgrade)
        newer = install(upgrade, "--prefix", prefix)
        assert newer.returncode == 0, newer.stderr
        assert client.get("/healthz").status_code == 200, "what runs goes on"
    assert (prefix / "current").resolve() != release == (prefix / "previous").resolve()
    assert len(list((prefix / "releases").iterdir())) == 2
    assert (prefix / "token").read_text() == token
    assert (prefix / "inputs" / "cnn" / "2.npz").is_file()
    assert f"--port {port} " in newer.stdout
    with started(newer.stdout, prefix) as client:
        assert client.get("/v1/models").status_code == 200
        assert [p for p in psutil.Process().children(recursive=True) if str(release) in " ".join(p.cmdline())] == []

    gone = subprocess.run(
        ["sh", prefix / "current" / "install.sh", "--prefix", prefix, "--uninstall"], capture_output=True, text=True
    )
    assert gone.returncode == 0, gone.stderr
    assert not prefix.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prefix"], "--prefix lacks its value"),
        (["--frobnicate"], "there is no option --frobnicate"),
        (["--prefix", "/tmp/a b"], "use letters, digits"),
        (["--prefix", "/nowhere/at/all", "--uninstall"], "there is no installation in /nowhere/at/all"),
        (["--prefix", "/proc/edge"], "/proc/edge cannot be written"),
        (["--python", "/bin/false"], f"here is no python3; .* make edge-bundle ARCH={ARCH}"),
    ],
)
def test_install_with_a_wrong_option_is_one_sentence(unpacked: Path, options: list[str], message: str):
    done = install(unpacked, *options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert re.search(message, done.stderr)


def test_install_of_a_damaged_bundle_or_one_for_another_machine_is_refused(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exports: dict[tuple[str, int], Export]
):
    damaged = shutil.copytree(unpacked, tmp_path / "damaged")
    (damaged / "models" / "cnn" / "2" / "int8.tflite").write_bytes(b"half")
    done = install(damaged, "--prefix", tmp_path / "device")
    assert done.returncode == 2
    assert done.stderr == "error: the bundle is damaged (models/cnn/2/int8.tflite: FAILED); copy it again\n"

    monkeypatch.setattr(bundle, "fetch_wheels", lambda *_, **__: [])
    other = "armv7l" if ARCH != "armv7l" else "aarch64"
    with tarfile.open(make_bundle(other, models=["cnn"], variants=["int8"])) as opened:
        opened.extractall(tmp_path, filter="data")
    done = install(tmp_path / NAME, "--prefix", tmp_path / "device")
    assert done.returncode == 2
    assert f"this bundle is for {other}-cp311" in done.stderr
    assert f"here is {ARCH}-cp{PYTHON.replace('.', '')}" in done.stderr
    assert f"make edge-bundle ARCH={ARCH}" in done.stderr
    assert not (tmp_path / "device").exists()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_unit_is_one_that_systemd_takes(unpacked: Path, tmp_path: Path):
    text = (unpacked / f"{NAME}.service").read_text()
    program = tmp_path / "current" / "venv" / "bin" / "edge"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / f"{NAME}.service"
    unit.write_text(text.replace("@PREFIX@", str(tmp_path)))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--bind ${EDGE_BIND}" in text
    assert "--token-file ${CREDENTIALS_DIRECTORY}/token" in text


# systemd needs a machine of its own. This stands in for it: it starts what the unit says, with its settings and token.
SYSTEMCTL = """#!/bin/sh
unit=/etc/systemd/system/export-once-edge.service
echo "$*" >>"$STAND_IN/calls"
case "$1" in
    restart | stop | disable)
        [ ! -f "$STAND_IN/pid" ] || kill "$(cat "$STAND_IN/pid")"
        while [ -f "$STAND_IN/pid" ] && kill -0 "$(cat "$STAND_IN/pid")" 2>/dev/null; do sleep 0.05; done
        rm -f "$STAND_IN/pid" ;;
esac
if [ "$1" = restart ]; then
    . "$(sed -n 's/^EnvironmentFile=//p' $unit)"
    CREDENTIALS_DIRECTORY=$(dirname "$(sed -n 's/^LoadCredential=token://p' $unit)")
    eval "exec $(sed -n 's/^ExecStart=//p' $unit)" >/dev/null 2>&1 &
    echo $! >"$STAND_IN/pid"
fi
"""
AS_UNIT = """
mount -t tmpfs none /run && mkdir -p /run/systemd/system && mount -t tmpfs none /etc/systemd/system && ip link set lo up
install() { sh "$1/install.sh" --python "$2" --prefix "$STAND_IN/device"; }
ask() { curl -s -H "Authorization: Bearer $(cat "$STAND_IN/device/token")" http://127.0.0.1:8090/v1/models | cut -c 1-10; }
install "$1" "$3" || exit 1
echo "running: $(ask)"
first=$(readlink "$STAND_IN/device/current")
install "$2" "$3"
echo "upgrade: $?"
echo "running: $(ask)"
[ "$first" = "$(readlink "$STAND_IN/device/current")" ] && echo "the first release"
grep -c frobnicate /etc/systemd/system/export-once-edge.service
sh "$STAND_IN/device/current/install.sh" --prefix "$STAND_IN/device" --uninstall
ls "$STAND_IN" /etc/systemd/system
"""


@pytest.mark.exhaustive
def test_unit_that_does_not_start_is_rolled_back_to_the_release_before(unpacked: Path, tmp_path: Path):
    """In namespaces of its own, so that nothing of this machine is touched."""
    alone = ["unshare", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    if not Path("/etc/systemd/system").is_dir() or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no systemd folder, or no namespaces, here")
    upgrade = shutil.copytree(unpacked, tmp_path / "upgrade")
    unit = upgrade / f"{NAME}.service"
    unit.write_text(unit.read_text().replace("edge serve", "edge serve --frobnicate"))
    resum(upgrade)
    stand_in = tmp_path / "systemd"
    (stand_in / "bin").mkdir(parents=True)
    (stand_in / "bin" / "systemctl").write_text(SYSTEMCTL)
    (stand_in / "bin" / "systemctl").chmod(0o755)
    environment = {**os.environ, "STAND_IN": str(stand_in), "PATH": f"{stand_in / 'bin'}:{os.environ['PATH']}"}
    command = [*alone, "sh", "-c", AS_UNIT, "sh", unpacked, upgrade, sys.executable]
    done = subprocess.run([str(c) for c in command], env=environment, capture_output=True, text=True, timeout=280)
    lines = [line for line in done.stdout.splitlines() if re.match(r"running|upgrade|the first|\d|uninstalled", line)]
    assert lines == [
        'running: {"models":',
        "upgrade: 2",
        'running: {"models":',
        "the first release",
        "0",
        f"uninstalled: {stand_in / 'device'}",
    ], done.stdout + done.stderr
    assert "the new release does not answer as a service" in done.stderr
    assert done.stdout.endswith(f"/etc/systemd/system:\n\n{stand_in}:\nbin\ncalls\n")
    calls = (stand_in / "calls").read_text().splitlines()
    assert calls[:3] == ["daemon-reload", "enable --quiet export-once-edge", "restart export-once-edge"]
    assert calls[-2:] == ["disable --quiet --now export-once-edge", "daemon-reload"]


# As sshd does it: the command is one text, which a shell runs.
SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
[ "$2" = device ] || { echo "ssh: Could not resolve hostname $2" >&2; exit 255; }
shift 2
exec sh -c "$*"
"""
INSTALL = """#!/bin/sh
dirname "$0"
for word; do echo "<$word>"; done
cat "$(dirname "$0")/models"
exit "$(cat "$(dirname "$0")/code")"
"""


def test_push_sends_the_archive_through_one_connection_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Without a network: `ssh` runs here what it would run there. `make test-all` does it over the real one."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(SSH)
    (tmp_path / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert machine_of("device", ["-p", "2222"]) == ARCH
    with pytest.raises(
        DeployError, match=r"nobody cannot be reached: ssh: Could not resolve hostname nobody; try `ssh"
    ):
        machine_of("nobody")

    archive, options = tmp_path / "bundle.tar.gz", ["--no-service", "--prefix", "/a place/it's"]
    contents = {"install.sh": INSTALL.encode(), "models": b"all of them\n", "code": b"0"}
    bundle.write_archive(archive, contents)
    push("device", archive, install=options)
    said = capfd.readouterr().out.splitlines()
    assert said[0] == "sending bundle.tar.gz, 0 MB, to device"
    assert said[2:] == ["<--no-service>", "<--prefix>", "</a place/it's>", "all of them"]
    place = Path(said[1])
    assert place.name == NAME
    assert not place.parent.exists()

    bundle.write_archive(archive, contents | {"code": b"3"})
    with pytest.raises(DeployError, match=r"install\.sh failed on device, with the reason above"):
        push("device", archive, install=options)
    assert not Path(capfd.readouterr().out.splitlines()[1]).parent.exists()
    with pytest.raises(DeployError, match="the connection to nobody broke"):
        push("nobody", archive)


SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[list[str]]:
    """An sshd on loopback that knows one throw-away key; ssh's options for it."""
    if not SSHD:
        pytest.skip("no sshd here: apt-get install openssh-server")
    port = pick_free_port()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    authorized = tmp_path / "authorized"
    shutil.copy(tmp_path / "user.pub", authorized)
    os.makedirs("/run/sshd", exist_ok=True) if os.geteuid() == 0 else None
    settings = [f"Port={port}", "ListenAddress=127.0.0.1", f"HostKey={tmp_path / 'host'}", "PidFile=none"]
    settings += [f"AuthorizedKeysFile={authorized}", "StrictModes=no", "UsePAM=no", "PasswordAuthentication=no"]
    command = [SSHD, "-D", "-e", "-f", "/dev/null", *(f"-o{setting}" for setting in settings)]
    with (tmp_path / "sshd.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    try:

        def listens() -> bool:
            assert process.poll() is None, (tmp_path / "sshd.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(listens)
        known = f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}"
        (tmp_path / "known").write_text(known)
        yield [
            "-p",
            str(port),
            "-i",
            str(tmp_path / "user"),
            "-F",
            "none",
            f"-oUserKnownHostsFile={tmp_path / 'known'}",
        ]
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.exhaustive
def test_push_installs_over_ssh_and_the_service_answers(archive: Path, ssh: list[str], tmp_path: Path):
    assert machine_of("127.0.0.1", ssh) == ARCH
    prefix, port = tmp_path / "device", pick_free_port()
    install_options = ["--no-service", "--prefix", prefix, "--port", port, "--python", sys.executable]
    script = "from deploy.push import push; import sys, pathlib, shlex; push('127.0.0.1', pathlib.Path(sys.argv[1]), options=shlex.split(sys.argv[2]), install=shlex.split(sys.argv[3]))"
    command = [sys.executable, "-c", script, archive, shlex.join(ssh), shlex.join(map(str, install_options))]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert f"sending {archive.name}" in done.stdout
    with started(done.stdout, prefix) as client:
        assert {m["name"] for m in client.get("/v1/models").json()["models"]} == {"mlp", "cnn"}


@pytest.mark.exhaustive
def test_push_says_that_a_key_is_not_known(ssh: list[str], tmp_path: Path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "stranger"], check=True)
    wrong_key = [str(tmp_path / "stranger") if option == str(tmp_path / "user") else option for option in ssh]
    with pytest.raises(
        DeployError, match=r"127\.0\.0\.1 cannot be reached: .*Permission denied.*must not ask for a password"
    ):
        machine_of("127.0.0.1", [*wrong_key, "-oIdentitiesOnly=yes", "-oIdentityAgent=none"])


@pytest.mark.skipif(not shutil.which("ssh"), reason="no ssh here: apt-get install openssh-client")
def test_push_says_who_cannot_be_reached_and_why():
    with pytest.raises(DeployError, match=r"127\.0\.0\.1 cannot be reached: .*Connection refused"):
        machine_of("127.0.0.1", ["-p", str(pick_free_port()), "-F", "none"])
