"""What ``edge bench`` is asked to measure: its options checked against the folders and what is installed here."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.candidates import SAVED_MODEL, Candidate
from edge.errors import ModelFileError, SettingError
from edge.interpreters import installed_runtimes
from edge.runtime import read_description
from edge.sample_inputs import make_up_inputs, read_inputs

if TYPE_CHECKING:
    import argparse

    from edge.sample_inputs import Tensors

MADE_UP = "made up"


@dataclass(frozen=True)
class Plan:
    """One model and version: its files, and where its recorded inputs would be."""

    folder: Path  # <model>/<version>/
    variants: tuple[str, ...]
    recorded: Path

    @property
    def model(self) -> str:
        return self.folder.parent.name

    @property
    def version(self) -> int:
        return int(self.folder.name)

    def described(self) -> list[dict[str, Any]]:
        """The jsons that can be read; what is wrong with the others is told by their rows."""
        found = []
        for variant in self.variants:
            try:
                found.append(read_description(self.folder / f"{variant}.json"))
            except ModelFileError:
                continue
        return found

    def inputs(self) -> tuple[dict[str, Tensors], str]:
        """The rows to ask by kind, and where they come from. Raises ModelFileError for damaged ones."""
        if self.recorded.is_file():
            return read_inputs(self.recorded), f"recorded in {self.recorded}"
        # The normalisation, which is nearer to the data than the range, stands in the json of a normalised file alone.
        described = sorted(self.described(), key=lambda d: not d["affine"]["inputs"])
        return (make_up_inputs(described[0]) if described else {}), MADE_UP

    @property
    def size(self) -> int:
        """Rows of one call: as many as a file with a static batch insists on."""
        return max((t["shape"][0] or 1 for d in self.described() for t in d["inputs"] if t["shape"]), default=1)


def check(options: argparse.Namespace) -> None:
    """Raises SettingError for what the command line got wrong."""
    if not 0 < options.seconds < float("inf"):
        raise SettingError(f"--seconds {options.seconds:g} is no time; give a number of seconds")
    for threads in options.threads:
        if threads < 1:
            raise SettingError(f"--threads {threads} is no number of threads; use 1 or more")
    folders = {"models": options.models, "savedmodels": options.savedmodels, "inputs": filter(None, [options.inputs])}
    for flag, named in folders.items():
        for folder in named:
            if not folder.is_dir():
                raise SettingError(f"there is no folder {folder}; give another one with --{flag}")
    if options.json and not os.access(options.json.absolute().parent, os.W_OK):
        raise SettingError(f"cannot write {options.json}: no such folder, or not a writable one; choose another --json")


def find_plans(options: argparse.Namespace) -> list[Plan]:
    """By folder, model and version; the highest version of each model, or all. Raises SettingError when there is none."""
    plans = [plan for folder in options.models for plan in _below(folder, options)]
    known = sorted({plan.model for plan in plans})
    for name in options.names or ():
        if name not in known:
            raise SettingError(
                f"no model named {name!r} in {_list(options.models)}; there are: {_list(known) or 'none'}"
            )
    plans = [plan for plan in plans if not options.names or plan.model in options.names]
    if not plans:
        there = sorted({path.stem for folder in options.models for path in folder.glob("*/*/*.tflite")})
        raise SettingError(
            f"{_list(options.models)} has no model with the variants {_list(options.variants)}; "
            f"there are: {_list(there) or 'none'}; choose other --variants or --models"
        )
    return plans


def _below(folder: Path, options: argparse.Namespace) -> list[Plan]:
    inputs = options.inputs or Path(os.path.normpath(folder / ".." / "inputs"))
    plans: dict[str, list[Plan]] = {}
    for place in sorted(
        (p for p in folder.glob("*/*") if p.name.isdigit()), key=lambda p: (p.parent.name, int(p.name))
    ):
        there = sorted({path.stem for path in place.iterdir() if path.suffix in (".json", ".tflite")})
        variants = there if options.variants == ["all"] else [v for v in options.variants if v in there]
        if variants:
            plan = Plan(place, tuple(variants), inputs / place.parent.name / f"{place.name}.npz")
            plans.setdefault(plan.model, []).append(plan)
    return [plan for found in plans.values() for plan in (found if options.versions == "all" else found[-1:])]


def find_runtimes(options: argparse.Namespace) -> list[str]:
    """Raises SettingError for one that is not installed."""
    installed = installed_runtimes()
    if not installed:
        raise SettingError("no LiteRT runtime is installed here; install ai-edge-litert or tflite-runtime")
    if options.runtime == ["all"]:
        return list(installed)
    for name in options.runtime or ():
        if name not in installed:
            raise SettingError(f"the runtime {name!r} is not installed here; there are: {_list(installed)}")
    return options.runtime or list(installed)[:1]


def find_candidates(plan: Plan, options: argparse.Namespace, runtimes: list[str], threads: int) -> list[Candidate]:
    """The files on every runtime and delegate; with the first number of threads the SavedModel too."""
    delegates = [None if name == "default" else name for name in options.delegate]
    candidates = [
        Candidate(plan.folder / f"{variant}.tflite", runtime, delegate, threads)
        for variant, runtime, delegate in product(plan.variants, runtimes, delegates)
    ]
    # TensorFlow takes its number of threads once for the whole process.
    if threads == options.threads[0] and importlib.util.find_spec("tensorflow"):
        folders = [folder / plan.model / str(plan.version) for folder in options.savedmodels]
        candidates += [Candidate(f, SAVED_MODEL, None, threads) for f in folders if f.is_dir()][:1]
    return candidates


def _list(names: Any) -> str:
    return ", ".join(map(str, names))
