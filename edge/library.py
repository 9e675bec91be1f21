"""ModelLibrary: the models of a folder, by name and version, and how new files take the place of old ones.

The folder is laid out like ``artifacts/lite``.
"""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge.errors import EdgeError, ModelFileError, NotFoundError, SettingError
from edge.interpreters import choose_runtime
from edge.runtime import LiteModel, read_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Stamp = tuple[tuple[int, int, int] | None, ...]


def find_descriptions(folder: Path, variant: str) -> list[Path]:
    """``<model>/<version>/<variant>.json`` below ``folder``. Raises SettingError when there is none."""
    if not folder.is_dir():
        raise SettingError(f"there is no folder {folder}; give the one with the models, --models DIR")
    found = _descriptions(folder, variant)
    if not found:
        variants = sorted({path.stem for path in folder.glob("*/*/*.tflite")})
        there = f"; there are the variants {', '.join(variants)}" if variants else ", nor any other .tflite file"
        raise SettingError(
            f"{folder} has no model with the variant {variant!r}{there}; choose another --variant or --models"
        )
    return found


def _descriptions(folder: Path, variant: str) -> list[Path]:
    """By model, its highest version first."""
    found = (path for path in folder.glob(f"*/*/{variant}.json") if path.parent.name.isdigit())
    return sorted(found, key=lambda path: (path.parent.parent.name, -int(path.parent.name)))


def check_folder(folder: Path, variant: str) -> int:
    """The number of files that are whole. Raises SettingError when there is none. Quick: LiteRT is not needed."""
    broken = []
    found = find_descriptions(folder, variant)
    for path in found:
        try:
            read_model(path.with_suffix(".tflite"))
        except ModelFileError as error:
            broken.append(error)
    if len(broken) == len(found):
        raise _nothing_loads(folder, broken)
    return len(found) - len(broken)


def _nothing_loads(folder: Path, broken: Sequence[EdgeError]) -> SettingError:
    return SettingError(f"no model of {folder} can be loaded: " + "; ".join(str(error) for error in broken))


@dataclass(frozen=True)
class Version:
    """One version of a model. ``model`` is what answers, ``problem`` why the file that lies there now does not.

    ``stamp`` is how the pair of files looked when it was last read, ``settled`` whether it is judged by that.
    """

    model: LiteModel | None = None
    problem: EdgeError | None = None
    stamp: Stamp = ()
    settled: bool = True


Served = dict[str, dict[int, Version]]  # the highest version of a model first


class ModelLibrary:
    """Every model is loaded at once. A file that cannot be loaded is remembered with its reason; the others work.

    ``options`` are LiteModel's. What is served is a dictionary that is replaced as a whole and never changed: a request
    sees the models before a reload or after it. Raises SettingError when the folder has no model of that variant, or
    none of them can be loaded.
    """

    def __init__(self, folder: Path, *, variant: str, **options: Any) -> None:
        self.folder, self.variant = folder, variant
        self._options = options
        self._reloading = threading.Lock()
        self.reloads = {"ok": 0, "failed": 0}  # versions taken over, and files refused, since the start
        find_descriptions(folder, variant)
        self._served: Served = self._look({}, patient=False)
        if not any(version.model for version in self._versions()):
            raise _nothing_loads(folder, self.problems())

    @property
    def threads(self) -> int:
        return self._options.get("threads", 1)

    @property
    def runtime(self) -> str:
        """Name and version, as "ai-edge-litert 2.3.0"."""
        return " ".join(choose_runtime(self._options.get("runtime")))

    def problems(self) -> list[EdgeError]:
        return [version.problem for version in self._versions() if version.problem]

    def models(self) -> list[LiteModel]:
        """What is loaded."""
        return [version.model for version in self._versions() if version.model]

    def find(self, name: str, version: int | None = None) -> LiteModel:
        """The model; without ``version`` the highest that could be loaded.

        Raises NotFoundError for an unknown one, ModelFileError for one that could not be loaded.
        """
        known = self._served.get(name, {})
        asked = known.values() if version is None else [known[version]] if version in known else []
        for found in asked:
            if found.model:
                return found.model
        for found in asked:
            if found.problem:
                raise found.problem
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise NotFoundError(f"Servable not found for request: {wanted}")

    def describe(self) -> list[dict[str, Any]]:
        """Name, variant and default version of every model, and of each version what it is or why it is not there."""
        return [self._describe(name, versions) for name, versions in sorted(self._served.items())]

    def states(self, name: str) -> dict[int, EdgeError | None]:
        """Version → None, or why it could not be loaded; highest first. Raises NotFoundError for an unknown model."""
        known = self._served.get(name)
        if not known:
            raise NotFoundError(f"Could not find any versions of model {name}")
        return {number: None if version.model else version.problem for number, version in known.items()}

    def reload(self, *, patient: bool) -> list[str]:
        """Take over what is new in the folder, let go of what is gone; returns what was done, in sentences.

        A file that does not fit its json never replaces a good one. ``patient``: it may still be on its way, .tflite and
        json one after the other, and is told as a problem when it stays so until the next look.
        """
        with self._reloading:
            if not self.folder.is_dir():  # a drive that is not mounted is no reason to forget everything
                return []
            before = self._served
            after = self._look(before, patient=patient)
            told = self._tell(before, after)
            self._served = after
        if told:
            del before
            gc.collect()  # the old interpreters, now rather than some day; those in use go with their requests
        return told

    def _versions(self) -> list[Version]:
        return [version for versions in self._served.values() for version in versions.values()]

    def _look(self, before: Served, *, patient: bool) -> Served:
        after: Served = {}
        for path in _descriptions(self.folder, self.variant):
            name, number = path.parent.parent.name, int(path.parent.name)
            found = self._look_at(path, before.get(name, {}).get(number, Version()), patient=patient)
            if found.model or found.problem:
                after.setdefault(name, {})[number] = found
            elif not found.settled:  # new, and not whole yet: known, so that the next look is its last chance
                after.setdefault(name, {})[number] = replace(found, problem=_on_its_way(path))
        return after

    def _look_at(self, path: Path, known: Version, *, patient: bool) -> Version:
        stamp = _stamp(path)
        if stamp == known.stamp and known.settled:
            return known
        try:
            model = self._load(path, known.model)
        except SettingError:  # what the command line got wrong is wrong for every file
            raise
        except EdgeError as error:
            if patient and stamp != known.stamp:
                return replace(known, stamp=stamp, settled=False)
            return Version(known.model, error, stamp)
        return Version(model, None, stamp)

    def _load(self, path: Path, current: LiteModel | None) -> LiteModel:
        """The model of those files: the current one where they say the same, else a new one that has answered once."""
        file = path.with_suffix(".tflite")
        if current and read_model(file)[0] == current.description:
            return current
        model = LiteModel(file, **self._options)
        model.warm_up()
        return model

    def _tell(self, before: Served, after: Served) -> list[str]:
        told = []
        for name, number in sorted({(n, v) for served in (before, after) for n in served for v in served[n]}):
            old, new = (served.get(name, {}).get(number, Version()) for served in (before, after))
            if new.model is not old.model:
                what = f"loaded, sha256 {new.model.sha256[:12]}…" if new.model else "is gone"
                told.append(f"{name} version {number} {what}")
                self.reloads["ok"] += new.model is not None
            if new.problem and new.settled and str(new.problem) != str(old.problem):
                kept = ", the one before goes on" if new.model else ""
                told.append(f"{name} version {number} refused{kept}: {new.problem}")
                self.reloads["failed"] += 1
        for line in told:
            print(f"edge: {line}", file=sys.stderr, flush=True)
        return told

    def _describe(self, name: str, versions: dict[int, Version]) -> dict[str, Any]:
        return {
            "name": name,
            "variant": self.variant,
            "default_version": next((number for number, version in versions.items() if version.model), None),
            "versions": [_describe_version(number, version) for number, version in versions.items()],
        }


def _describe_version(number: int, version: Version) -> dict[str, Any]:
    """``error``: why there is no answer; ``refused``: why there is one, but not from the file that lies there now."""
    problem = str(version.problem) if version.problem else None
    if not version.model:
        return {"version": number, "error": problem}
    return {
        "version": number,
        "error": None,
        "refused": problem,
        "sha256": version.model.sha256,
        "bytes": version.model.bytes,
        "inputs": [tensor.describe() for tensor in version.model.inputs],
        "outputs": [tensor.describe() for tensor in version.model.outputs],
    }


def _on_its_way(path: Path) -> ModelFileError:
    return ModelFileError(f"{path.with_suffix('.tflite')} is still being copied; ask again in a second")


def _stamp(path: Path) -> Stamp:
    """What changes with either file of a pair: time of change, size, inode; None for one that is not there."""
    stamps: list[tuple[int, int, int] | None] = []
    for file in (path, path.with_suffix(".tflite")):
        try:
            found = file.stat()
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
        except OSError:
            stamps.append(None)
    return tuple(stamps)
