"""Where artefacts live, and how they are written: whole or not at all.

Everything below ``ARTIFACTS`` (default ``artifacts/``) is made under a temporary name beside its place and renamed.
A reader never sees half of anything; a build that is killed leaves only ``.tmp-*``, which the next build sweeps away.
Whether something is out of date is decided by content: its json holds the fingerprint of what it was made from.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REPOSITORY = Path(__file__).resolve().parent.parent


def artifacts_root() -> Path:
    return Path(os.environ.get("ARTIFACTS") or REPOSITORY / "artifacts").resolve()


def reports_root() -> Path:
    return Path(os.environ.get("REPORTS") or REPOSITORY / "reports").resolve()


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (a file or a folder for the caller to make); rename it on success.

    Raises ArtifactError with a remedy when the folder is read-only or the disk is full. An old artefact of that name
    stays until the new one is complete.
    """
    temporary = path.parent / f".tmp-{os.getpid()}-{path.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_dir() and not path.is_symlink():
            old = path.parent / f".tmp-{os.getpid()}-old-{path.name}"
            os.rename(path, old)
            os.rename(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except Exception as error:
        code = _system_code(error)
        setting = "REPORTS" if path.is_relative_to(reports_root()) else "ARTIFACTS"
        if code in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ArtifactError(
                f"cannot write {path}: {os.strerror(code)}; make the folder writable or set {setting}=/another/folder"
            ) from error
        if code in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(
                f"no space left for {path}; free some, or set {setting} to a folder on another disk, and run again"
            ) from error
        if code in (errno.ENOTDIR, errno.EEXIST):
            raise ArtifactError(
                f"cannot write {path}: a file is in the way of a folder; remove it or set {setting}=/another/folder"
            ) from error
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                temporary.unlink()


_REPORTED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def _system_code(error: Exception) -> int:
    """The errno of a failed write, 0 for anything else. TensorFlow and HDF5 give it as text, with errors of their own."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return next((code for code in _REPORTED if os.strerror(code) in str(error)), 0)


def write_json(path: Path, data: Any) -> None:
    with write_whole(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON artefact. Raises ArtifactError when it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; run `make deploy-all` to build it") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete it and run `make deploy-all`") from error


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(paths: Iterable[Path], *, extra: str = "") -> str:
    """sha256 over the contents of files and folders (their names relative to the repository), and ``extra``."""
    digest = hashlib.sha256(extra.encode())
    for path in sorted(paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.suffix == ".pyc":
                continue
            name = file.relative_to(REPOSITORY) if file.is_relative_to(REPOSITORY) else Path(file.name)
            digest.update(f"\0{name}\0{sha256_file(file)}".encode())
    return digest.hexdigest()


def is_current(json_path: Path, made_from: str) -> bool:
    """Whether the artefact described by ``json_path`` was made from what ``made_from`` (a fingerprint) stands for."""
    try:
        return json.loads(json_path.read_text()).get("made_from") == made_from
    except (OSError, ValueError, AttributeError):
        return False


def sweep(folder: Path) -> None:
    """Remove what builds that were killed have left: ``.tmp-<pid>-*`` of processes that no longer exist."""
    for leftover in folder.rglob(".tmp-*"):
        pid = leftover.name.split("-")[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
