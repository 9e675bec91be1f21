"""Which models there are: every ``models/<name>.py`` with a module-level ``SPEC``. Adding a model is adding that file.

Names and sources are read from the text of the files, so that asking "is anything out of date?" imports no TensorFlow.
The environment variable MODELS ("mlp,cnn") restricts every step to those models.
"""

from __future__ import annotations

import ast
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from models.code import parse
from models.errors import ModelError

if TYPE_CHECKING:
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
    for node in parse(path).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "SPEC" for target in targets):
            return True
    return False


def _imports(path: Path) -> list[str]:
    modules: list[str] = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [module for module in modules if module.startswith("models.")]
