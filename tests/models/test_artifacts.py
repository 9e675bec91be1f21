"""Artefacts are written whole or not at all, and a failed write is a sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.artifacts import fingerprint, sweep, write_json, write_whole
from models.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable


def _fill(_folder: Path) -> None:
    Path("/dev/full").write_text("x" * 100_000)


def _fill_with_tensorflow(_folder: Path) -> None:
    import tensorflow as tf

    tf.io.write_file("/dev/full", "x" * 100_000)


def _write_folder(path: Path, write: Callable[[Path], object]) -> None:
    with write_whole(path) as folder:
        folder.mkdir()
        (folder / "half").write_text("half")
        write(folder)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("write", [_fill, _fill_with_tensorflow])
def test_full_disk_is_a_sentence_and_keeps_the_old(tmp_path, write):
    write_json(tmp_path / "model" / "a.json", 1)
    with pytest.raises(ArtifactError, match=r"no space left for .*model; free some"):
        _write_folder(tmp_path / "model", write)
    assert [p.name for p in tmp_path.rglob("*")] == ["model", "a.json"]


def test_file_in_the_way_of_a_folder_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="a file is in the way of a folder"):
        write_json(tmp_path / "file" / "x.json", {})


def test_other_errors_pass_and_leave_nothing(tmp_path):
    with pytest.raises(KeyError):
        _write_folder(tmp_path / "model", lambda _folder: {}["nothing"])
    assert not list(tmp_path.iterdir())


def test_new_folder_replaces_the_old_as_one(tmp_path):
    for content in ("old", "new"):
        with write_whole(tmp_path / "model") as folder:
            folder.mkdir()
            (folder / content).write_text(content)
    assert [p.name for p in tmp_path.rglob("*")] == ["model", "new"]


def test_sweep_takes_what_dead_processes_left_and_nothing_else(tmp_path):
    dead = next(pid for pid in range(4_000_000, 1, -1) if not Path(f"/proc/{pid}").exists())
    for name in (f".tmp-{dead}-gone", f".tmp-{os.getpid()}-mine", "kept"):
        (tmp_path / name).mkdir()
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {f".tmp-{os.getpid()}-mine", "kept"}


def test_fingerprint_changes_with_content_and_extra(tmp_path):
    (tmp_path / "a").write_text("1")
    first = fingerprint([tmp_path])
    assert fingerprint([tmp_path]) == first
    assert fingerprint([tmp_path], extra="x") != first
    (tmp_path / "a").write_text("2")
    assert fingerprint([tmp_path]) != first
