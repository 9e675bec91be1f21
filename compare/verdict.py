"""The verdict: is what a target answers still the same model? The one truth about parity; NumPy only.

``judge`` looks at the answers in this order and stops at the first thing that is wrong:
names → dtype → shape → NaN and infinity → the same answer when asked again → values → decision → task metric.
Float targets pass by the tolerance on values. Quantized ones pass by their decisions and the task metric.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from compare import metrics
from compare.calls import Call, exercise
from compare.decision import Agreement, agreement
from compare.distance import absolute_error, relative_error, smallest_tolerance
from compare.tolerances import Limits, limits_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from compare.calls import Predict
    from export.evidence import Case
    from models.spec import ModelSpec

Kind = Literal["pass", "fail", "skipped", "info"]


@dataclass(frozen=True)
class OutputErrors:
    """One output over all calls. The errors are None where names, dtype or shape were already wrong."""

    name: str
    dtype: str
    max_abs: float | None
    p99_abs: float | None
    max_rel: float | None
    tolerance: float | None  # None: judged by decision
    would_pass_at: float | None
    n: int  # rows that were answered, each counted once
    calls: int
    batches: tuple[int, ...]


@dataclass(frozen=True)
class MetricValue:
    """The task metric of the reference and of the target, on the same labelled rows."""

    name: str
    reference: float
    value: float


@dataclass(frozen=True)
class Verdict:
    verdict: Kind
    reason: str = ""
    next: str = ""
    outputs: tuple[OutputErrors, ...] = ()
    decision: Agreement | None = None
    metric: MetricValue | None = None


@dataclass(frozen=True)
class Problem:
    """What is wrong, and what to do next."""

    reason: str
    next: str


@dataclass(frozen=True)
class _Evidence:
    """What the checks look at."""

    calls: Sequence[Call]
    spec: ModelSpec
    limits: Limits
    decision: Agreement | None = None
    metric: MetricValue | None = None
    names: list[str] = field(default_factory=list)


def verify(
    predict: Predict,
    cases: Sequence[Case],
    spec: ModelSpec,
    *,
    precision: str = "float32",
    fixed_batch: int | None = None,
    seconds: float = 4.0,
) -> Verdict:
    """Exercise ``predict`` on ``cases`` and judge its answers; what it raises is passed on."""
    return judge(exercise(predict, cases, fixed_batch=fixed_batch, seconds=seconds), spec, precision=precision)


def judge(calls: Sequence[Call], spec: ModelSpec, *, precision: str = "float32") -> Verdict:
    """The verdict on recorded calls. Raises ValueError without any."""
    if not calls:
        raise ValueError("no calls to judge; exercise() the target first")
    limits = limits_for(precision)
    names = list(calls[0].case.outputs)
    evidence = _Evidence(calls, spec, limits, names=names)
    for check in (_names, _dtypes, _shapes):
        if problem := check(evidence):
            return Verdict("fail", problem.reason, problem.next, tuple(_unmeasured(n, evidence) for n in names))
    outputs = tuple(_measure(name, evidence) for name in names)
    labelled = _labelled(calls)
    evidence = _Evidence(calls, spec, limits, _agreement(labelled, spec, limits), _metric(labelled, spec), names)
    by_rule = (_values,) if limits.tolerance is not None else (_decisions, _metric_holds)
    for check in (_finite, _repeatable, *by_rule):
        if problem := check(evidence):
            return Verdict("fail", problem.reason, problem.next, outputs, evidence.decision, evidence.metric)
    verdict: Kind = "pass"
    if limits.tolerance is None and not (evidence.decision or evidence.metric):
        verdict = "info"
    return Verdict(verdict, _summary(evidence), "", outputs, evidence.decision, evidence.metric)


# --- the checks, in their order ------------------------------------------------------------------------------------


def _names(evidence: _Evidence) -> Problem | None:
    expected = set(evidence.names)
    for call in evidence.calls:
        if set(call.outputs) != expected:
            missing, extra = sorted(expected - set(call.outputs)), sorted(set(call.outputs) - expected)
            parts = [f"{word}: {', '.join(names)}" for word, names in (("missing", missing), ("extra", extra)) if names]
            return Problem(
                f"wrong output names ({'; '.join(parts)}) for {call}",
                "Give the outputs the names of the SavedModel's signature; converters rename them to Identity, Identity_1 …",
            )
    return None


def _dtypes(evidence: _Evidence) -> Problem | None:
    for call, name, value, reference in _answers(evidence):
        if dtype_name(value) != dtype_name(reference):
            return Problem(
                f"{name} is {dtype_name(value)} where the reference gives {dtype_name(reference)}, for {call}",
                "Return the signature's dtype; look for a missing dequantization or a JSON answer that was not cast.",
            )
    return None


def _shapes(evidence: _Evidence) -> Problem | None:
    for call, name, value, reference in _answers(evidence):
        if value.shape != reference.shape:
            return Problem(
                f"{name} has shape {list(value.shape)} where the reference gives {list(reference.shape)}, for {call}",
                "Look for a dropped or added axis, and whether every row of the batch was answered.",
            )
    return None


def _finite(evidence: _Evidence) -> Problem | None:
    for call, name, value, reference in _answers(evidence):
        if value.dtype.kind != "f":
            continue
        wrong = ~np.isfinite(value) & np.isfinite(reference)
        if wrong.any():
            row = call.start + int(np.argwhere(wrong)[0][0]) if wrong.ndim else call.start
            return Problem(
                f"{name} has {int(wrong.sum())} NaN or infinite values where the reference is finite, first in row {row} of {call}",
                "Look for an overflow: a large negative mask, an exp without its maximum subtracted, float16 above 65504.",
            )
    return None


def _repeatable(evidence: _Evidence) -> Problem | None:
    """Rows that were answered before must get the same answer: again, and in other batches."""
    first: dict[tuple[int, int, str], NDArray] = {}
    for call in sorted(evidence.calls, key=lambda c: (-c.batch, c.repeat)):
        for name in evidence.names:
            earlier = first.setdefault((id(call.case), call.start, name), call.outputs[name])
            needed = smallest_tolerance(call.outputs[name], earlier[: call.batch])
            if needed > evidence.limits.repeat:
                return Problem(
                    f"{name} changes by {needed:.2g} between two calls with the same rows ({call})",
                    "Reset the state before each call (LiteRT: reset_all_variables) and look for rows that see each other in a batch.",
                )
    return None


def _values(evidence: _Evidence) -> Problem | None:
    tolerance = evidence.limits.tolerance
    assert tolerance is not None
    for call, name, value, reference in _answers(evidence):
        needed = smallest_tolerance(value, reference)
        if needed > tolerance:
            return Problem(
                f"{name} is off by {needed:.2g}, allowed is {tolerance:g} ({call})",
                f"Compare the worst row layer by layer; a tolerance of {needed:.1e} would have passed.",
            )
    return None


def _decisions(evidence: _Evidence) -> Problem | None:
    found, limits = evidence.decision, evidence.limits
    if found is None or found.clear_agreement is None or found.clear_agreement >= limits.clear_agreement:
        return None
    return Problem(
        f"decides like the reference on {found.clear_agreement:.3f} of {found.clear_n} clear samples, needed is {limits.clear_agreement:g}",
        "Look at the representative data (all classes, the real range) and keep normalisation outside the quantized graph.",
    )


def _metric_holds(evidence: _Evidence) -> Problem | None:
    found, limits = evidence.metric, evidence.limits
    if found is None:
        return None
    assert evidence.spec.metric is not None
    if evidence.spec.metric.higher_is_better:
        if found.value >= found.reference - limits.metric_drop:
            return None
        allowed = f"at least {found.reference - limits.metric_drop:.4g}"
    else:
        if found.value <= found.reference * limits.error_ratio:
            return None
        allowed = f"at most {found.reference * limits.error_ratio:.4g}"
    return Problem(
        f"{found.name} is {found.value:.4g}, the reference's {found.reference:.4g}; allowed is {allowed}",
        "Quantize less (dynamic, float16), train with quantization, or widen the representative data.",
    )


# --- what is measured ----------------------------------------------------------------------------------------------


def _measure(name: str, evidence: _Evidence) -> OutputErrors:
    pairs = [(value, reference) for _, n, value, reference in _answers(evidence) if n == name]
    absolute = np.concatenate([absolute_error(v, r).ravel() for v, r in pairs])
    relative = np.concatenate([relative_error(v, r).ravel() for v, r in pairs])
    plain = _unmeasured(name, evidence)
    return OutputErrors(
        **{
            **vars(plain),
            "max_abs": _finite_or_none(absolute.max(initial=0.0)),
            "p99_abs": _finite_or_none(np.quantile(absolute, 0.99, method="higher") if absolute.size else 0.0),
            "max_rel": _finite_or_none(relative.max(initial=0.0)),
            "would_pass_at": _finite_or_none(max(smallest_tolerance(v, r) for v, r in pairs)),
        }
    )


def _unmeasured(name: str, evidence: _Evidence) -> OutputErrors:
    calls = evidence.calls
    rows = {(id(call.case), row) for call in calls for row in range(call.start, call.start + call.batch)}
    dtype = dtype_name(calls[0].case.outputs[name])
    batches = tuple(sorted({call.batch for call in calls}))
    return OutputErrors(name, dtype, None, None, None, evidence.limits.tolerance, None, len(rows), len(calls), batches)


def _labelled(calls: Sequence[Call]) -> Call | None:
    """The call with the most labelled rows, asked for the first time."""
    candidates = [c for c in calls if c.case.kind == "test" and c.case.labels is not None and c.repeat == 1]
    return max(candidates, key=lambda c: c.batch, default=None)


def _agreement(call: Call | None, spec: ModelSpec, limits: Limits) -> Agreement | None:
    if call is None or spec.decision is None:
        return None
    name = spec.decision.output
    return agreement(call.outputs[name], call.reference(name), spec.decision, clear_margin=limits.clear_margin)


def _metric(call: Call | None, spec: ModelSpec) -> MetricValue | None:
    if call is None or spec.metric is None or spec.decision is None:
        return None
    name = spec.decision.output
    assert call.case.labels is not None
    labels = call.case.labels[call.start : call.start + call.batch]
    reference, value = (metric_value(spec, labels, rows) for rows in (call.reference(name), call.outputs[name]))
    if reference is None or value is None:
        return None
    return MetricValue(spec.metric.name, reference, value)


def metric_value(spec: ModelSpec, labels: NDArray, answer: NDArray) -> float | None:
    """The spec's metric of ``answer``; None where it is not defined, such as ROC-AUC with one class."""
    assert spec.metric is not None
    assert spec.decision is not None
    try:
        value = float(metrics.measure(spec.metric.name, spec.decision.kind, labels, answer))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _summary(evidence: _Evidence) -> str:
    """One sentence for a pass of a quantized target; a float one needs none."""
    if evidence.limits.tolerance is not None:
        return ""
    parts = []
    if found := evidence.decision:
        clear = "none" if found.clear_agreement is None else f"{found.clear_agreement:.3f} of {found.clear_n}"
        parts.append(f"agreement {found.agreement:.3f} of {found.n}, clear samples {clear}")
    if shift := _scaled_error(evidence):
        parts.append(shift)
    if not (evidence.decision or evidence.metric):
        parts.append("no labelled samples, so no verdict by decision")
    return "; ".join(parts)


def _scaled_error(evidence: _Evidence) -> str:
    """The largest error in units of the output's scale, the range of the reference's answers."""
    parts = []
    for name in evidence.names:
        references = np.concatenate([np.ravel(r) for _, n, _, r in _answers(evidence) if n == name])
        if references.dtype.kind not in "fiu" or not references.size:
            continue
        finite = references[np.isfinite(references)].astype(np.float64)
        scale = float(np.ptp(finite)) if finite.size else 0.0
        error = max(float(absolute_error(v, r).max(initial=0.0)) for _, n, v, r in _answers(evidence) if n == name)
        if scale and np.isfinite(error):
            parts.append(f"error of {name} at most {100 * error / scale:.2g} % of its range")
    return ", ".join(parts)


def _answers(evidence: _Evidence) -> list[tuple[Call, str, NDArray, NDArray]]:
    return [
        (c, name, np.asarray(c.outputs[name]), c.reference(name)) for c in evidence.calls for name in evidence.names
    ]


def _finite_or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def dtype_name(array: NDArray) -> str:
    """NumPy's name, with "string" for text of any kind, as in TensorSpec."""
    return "string" if array.dtype.kind in "OSU" else array.dtype.name
