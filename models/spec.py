"""ModelSpec: everything that the rest of the house knows about a model. NumPy-free data, so any room may read it.

A model of ours declares one as ``SPEC`` in ``models/<name>.py``, with the functions that build and train it.
After the export the data part travels as JSON inside the evidence; a user's own SavedModel becomes a ModelSpec
read from its signature. Only ``models/`` and ``export/`` use the functions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Affine:
    """Normalisation as data: ``normalised = (raw - ref) / scale`` and ``raw = normalised * scale + ref``.

    ``ref`` is a constant vector that broadcasts against the tensor's last axis, or ``"last(<input>)"``: the last
    step of that raw input, ``x[:, -1, :]``, per row. ``scale`` is a constant vector.
    """

    ref: tuple[float, ...] | str
    scale: tuple[float, ...]


@dataclass(frozen=True)
class TensorSpec:
    """One named input or output. ``shape`` has None where the size is free (the batch axis first)."""

    name: str
    shape: Shape
    dtype: str  # NumPy's name: "float32", "int32", "string"
    unit: str = ""
    range: tuple[float, float] | None = None  # of the training data, raw units
    affine: Affine | None = None
    columns: tuple[str, ...] = ()  # what the last axis holds, where each place has a name of its own


@dataclass(frozen=True)
class Decision:
    """How an answer becomes a decision: ``threshold`` on a probability, ``argmax`` over classes, or the ``value`` itself."""

    kind: str  # "threshold" | "argmax" | "value"
    output: str
    labels: tuple[str, ...] = ()
    threshold: float = 0.5
    unit: str = ""


@dataclass(frozen=True)
class Metric:
    """The task metric, by its name in compare/metrics.py: roc_auc, accuracy, macro_f1 or mae."""

    name: str
    higher_is_better: bool
    bound: float | None = None  # asserted on held-out data of version 2


@dataclass(frozen=True)
class ModelSpec:
    """What a model is. The callables are None on a spec that was read back from JSON."""

    name: str
    task: str  # one sentence, shown in tables and on the page
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    decision: Decision | None = None
    metric: Metric | None = None
    build: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    dataset: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    fit: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    baselines: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    extra_signatures: Callable[..., Any] | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The data part, JSON-ready; ``from_json`` reads it back."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _CALLABLES}
        data["inputs"] = [asdict(t) for t in self.inputs]
        data["outputs"] = [asdict(t) for t in self.outputs]
        data["decision"] = asdict(self.decision) if self.decision else None
        data["metric"] = asdict(self.metric) if self.metric else None
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        decision, metric = data.get("decision"), data.get("metric")
        return cls(
            name=data["name"],
            task=data["task"],
            inputs=tuple(_tensor(t) for t in data["inputs"]),
            outputs=tuple(_tensor(t) for t in data["outputs"]),
            decision=Decision(**{**decision, "labels": tuple(decision["labels"])}) if decision else None,
            metric=Metric(**metric) if metric else None,
        )


_CALLABLES = {"build", "dataset", "fit", "baselines", "extra_signatures"}


def _tensor(data: Mapping[str, Any]) -> TensorSpec:
    affine = data.get("affine")
    if affine:
        ref = affine["ref"]
        affine = Affine(ref if isinstance(ref, str) else tuple(ref), tuple(affine["scale"]))
    bounds = data.get("range")
    return TensorSpec(
        name=data["name"],
        shape=tuple(data["shape"]),
        dtype=data["dtype"],
        unit=data.get("unit", ""),
        range=tuple(bounds) if bounds else None,
        affine=affine,
        columns=tuple(data.get("columns", ())),
    )
