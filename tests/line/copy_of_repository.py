"""A copy of the repository as git would commit it, with the environments shared by symbolic links."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def copy_repository(repository: Path, copy: Path, *, shared: Iterable[str] = ()) -> Path:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=repository, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (repository / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository / name, copy / name)
    for name in shared:
        if (repository / name).exists():
            (copy / name).symlink_to(repository / name)
    return copy
