"""Which models there are: every ``models/<name>.py`` with a module-level ``SPEC``. Adding a model is adding that file.

Names and sources are read from the text of the files, so that asking "is anything out of date?" imports no TensorFlow.
The environment variable MODELS ("mlp,cnn") restricts every step to those models.
"""

from __future__ import annotations

import ast
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.code import parse
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.spec import ModelSpec

FOLDER = Path(__file__).resolve().parent
# They hold no number that changes a trained model, so a change in them trains nothing again.
_WITHOUT_NUMBERS = {"models.artifacts", "models.code", "models.errors", "models.registry", "models.spec"}


def names() -> list[str]:
    """All models, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if _declares_spec(path))


def selected() -> list[str]:
    """The models that this run is about: MODELS, or all. Raises ModelError for an unknown name."""
    wanted = [name.strip() for name in os.environ.get("MODELS", "").split(",") if name.strip()]
    return [_known(name) for name in wanted] or names()


def longest_first(chosen: list[str]) -> list[str]:
    """In the order in which to train them: by ``TRAINING_SECONDS`` of their files, where they state that."""
    return sorted(chosen, key=lambda name: -_constants(FOLDER / f"{name}.py").get("TRAINING_SECONDS", 0))


def load(name: str) -> ModelSpec:
    """The SPEC of ``models/<name>.py``. Raises ModelError for an unknown name."""
    spec = importlib.import_module(f"models.{_known(name)}").SPEC
    if spec.name != name:
        raise ModelError(f"models/{name}.py has a SPEC named {spec.name!r}; give it the name of the file, {name!r}")
    return spec


def sources(name: str) -> list[Path]:
    """The files that make this model what it is: its own, and those of this room that it imports, however deep."""
    found: dict[str, Path] = {}
    waiting = [f"models.{_known(name)}", "models.deployed", "models.training_run"]
    while waiting:
        module = waiting.pop()
        path = FOLDER.parent / (module.replace(".", "/") + ".py")
        if module in found or module in _WITHOUT_NUMBERS or not path.is_file():
            continue
        found[module] = path
        waiting += _imports(path)
    return sorted(found.values())


def _known(name: str) -> str:
    if name not in names():
        raise ModelError(f"there is no model named {name!r}; the models are: {', '.join(names())}")
    return name


def _declares_spec(path: Path) -> bool:
    return any(name == "SPEC" for name, _ in _assignments(path))


def _constants(path: Path) -> dict[str, Any]:
    """The module's plain numbers and texts."""
    return {name: value.value for name, value in _assignments(path) if isinstance(value, ast.Constant)}


def _assignments(path: Path) -> Iterator[tuple[str, ast.expr | None]]:
    for node in parse(path).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id, node.value


def _imports(path: Path) -> list[str]:
    modules: list[str] = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [module for module in modules if module.startswith("models.")]
