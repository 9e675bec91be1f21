"""``python -m models.train``: train every model whose sources have changed, as many at a time as there are cores.

Writes ``artifacts/training/<model>/``: ``1.keras`` and ``2.keras`` (an earlier checkpoint and the best one of the same
run), ``logs/`` for TensorBoard, and ``training.json``. A second run finds nothing to do and imports no TensorFlow.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from functools import cache, partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

from models import registry
from models.artifacts import artifacts_root, is_current, read_json, sweep, write_json, write_whole
from models.code import code_fingerprint
from models.errors import interruptible, run_cli
from models.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.spec import ModelSpec


def training_folder(root: Path, name: str) -> Path:
    return root / "training" / name


def made_from(name: str) -> str:
    """The fingerprint of everything that the trained model depends on."""
    versions = " ".join(f"{package}=={metadata.version(package)}" for package in ("tensorflow", "keras"))
    return code_fingerprint(registry.sources(name), extra=versions)


def is_trained(root: Path, name: str) -> bool:
    folder = training_folder(root, name)
    return is_current(folder / "training.json", made_from(name)) and all(
        (folder / f"{v}.keras").is_file() for v in (1, 2)
    )


def describe(training: dict[str, Any]) -> str:
    """One line: the quality of both versions beside the baselines."""
    metric = training["metric"]
    others = "".join(f"; {name} {value:.4f}" for name, value in training["baselines"].items())
    return (
        f"{training['spec']['name']:<12} {metric['name']} {metric['2']:.4f} (version 1: {metric['1']:.4f}{others}); "
        f"epoch {training['epochs']['2']} of {training['epochs']['run']} (version 1: {training['epochs']['1']}), "
        f"{training['seconds']:.0f} s"
    )


def train(name: str, root: Path) -> None:
    fingerprint_before = made_from(name)
    with write_whole(training_folder(root, name)) as folder:
        folder.mkdir()  # one that cannot be made is told before TensorFlow is loaded
        print(f"training {name}", flush=True)
        train_model = _load_training()
        result = train_model(registry.load(name), folder, lambda line: print(f"  {name:<12} {line}", flush=True))
        write_json(folder / "training.json", {**result, "made_from": fingerprint_before})


@cache
def _load_training() -> Callable[[ModelSpec, Path, Callable[[str], None]], dict[str, Any]]:
    """TensorFlow, set up to give the same numbers each time."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from models.training_run import train_model

    logging.getLogger("tensorflow").setLevel("ERROR")  # it warns of every new batch size
    tf.config.experimental.enable_op_determinism()
    return train_model


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__.split("\n")[0])
    parser.add_argument("--force", action="store_true", help="train again even when nothing has changed")
    options = parser.parse_args(argv)
    started, root, names = time.monotonic(), artifacts_root(), registry.selected()
    for folder in ("training", "data"):
        sweep(root / folder)
    stale = [name for name in names if options.force or not is_trained(root, name)]
    if stale:
        try:
            side_by_side(partial(train, root=root), registry.longest_first(stale))
        finally:
            sweep(root / "training")  # what a process that was ended has left
    for name in names:
        print(describe(read_json(training_folder(root, name) / "training.json")))
    print(f"trained {len(stale)} of {len(names)} models in {time.monotonic() - started:.0f} s: {root / 'training'}")
    return 0


if __name__ == "__main__":
    interruptible()
    run_cli(main)
