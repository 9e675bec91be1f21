"""ModelLibrary: the models of a folder, by name and version. The folder is laid out like ``artifacts/lite``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.errors import EdgeError, ModelFileError, NotFoundError, SettingError
from edge.runtime import LiteModel, read_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def find_descriptions(folder: Path, variant: str) -> list[Path]:
    """``<model>/<version>/<variant>.json`` below ``folder``. Raises SettingError when there is none."""
    if not folder.is_dir():
        raise SettingError(f"there is no folder {folder}; give the one with the models, --models DIR")
    found = sorted(path for path in folder.glob(f"*/*/{variant}.json") if path.parent.name.isdigit())
    if not found:
        variants = sorted({path.stem for path in folder.glob("*/*/*.tflite")})
        there = f"; there are the variants {', '.join(variants)}" if variants else ", nor any other .tflite file"
        raise SettingError(
            f"{folder} has no model with the variant {variant!r}{there}; choose another --variant or --models"
        )
    return found


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


class ModelLibrary:
    """Every model is loaded at once. A file that cannot be loaded is remembered with its reason; the others work.

    Raises SettingError when the folder has no model of that variant, or none of them can be loaded.
    """

    def __init__(self, folder: Path, *, variant: str, threads: int = 1) -> None:
        self.variant, self.threads = variant, threads
        self._models: dict[str, dict[int, LiteModel]] = {}
        self._broken: dict[str, dict[int, EdgeError]] = {}
        for path in find_descriptions(folder, variant):
            name, version = path.parent.parent.name, int(path.parent.name)
            try:
                model = LiteModel(path.with_suffix(".tflite"), threads=threads)
                model.warm_up()  # some files load and then cannot run
                self._models.setdefault(name, {})[version] = model
            except ModelFileError as error:
                self._broken.setdefault(name, {})[version] = error
        if not any(self._models.values()):
            raise _nothing_loads(folder, self.errors())

    def errors(self) -> list[EdgeError]:
        return [error for versions in self._broken.values() for error in versions.values()]

    def find(self, name: str, version: int | None = None) -> LiteModel:
        """The model; without ``version`` the highest that could be loaded.

        Raises NotFoundError for an unknown one, ModelFileError for one that could not be loaded.
        """
        loaded, broken = self._models.get(name, {}), self._broken.get(name, {})
        if version is None and loaded:
            return loaded[max(loaded)]
        if version in loaded:
            return loaded[version]
        reason = broken.get(max(broken) if version is None else version) if broken else None
        if reason:
            raise reason
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise NotFoundError(f"Servable not found for request: {wanted}")

    def describe(self) -> list[dict[str, Any]]:
        """Name, variant and default version of every model, and of each version what it is or why it is not there."""
        return [self._describe(name) for name in sorted({*self._models, *self._broken})]

    def states(self, name: str) -> dict[int, EdgeError | None]:
        """Version → None, or why it could not be loaded; highest first. Raises NotFoundError for an unknown model."""
        known: dict[int, EdgeError | None] = dict.fromkeys(self._models.get(name, {}))
        known.update(self._broken.get(name, {}))
        if not known:
            raise NotFoundError(f"Could not find any versions of model {name}")
        return dict(sorted(known.items(), reverse=True))

    def _describe(self, name: str) -> dict[str, Any]:
        loaded = self._models.get(name, {})
        versions: list[dict[str, Any]] = []
        for version, error in self.states(name).items():
            if error:
                versions.append({"version": version, "error": str(error)})
                continue
            model = loaded[version]
            versions.append(
                {
                    "version": version,
                    "error": None,
                    "sha256": model.sha256,
                    "bytes": model.bytes,
                    "inputs": [tensor.describe() for tensor in model.inputs],
                    "outputs": [tensor.describe() for tensor in model.outputs],
                }
            )
        return {
            "name": name,
            "variant": self.variant,
            "default_version": max(loaded, default=None),
            "versions": versions,
        }
