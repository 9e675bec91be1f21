"""The verdict must fail each fault, and must not fail an honest answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compare.calls import exercise
from compare.decision import margin
from compare.distance import relative_error, smallest_tolerance
from compare.verdict import judge, verify
from export.evidence import Case
from models.spec import Decision, ModelSpec, TensorSpec
from tests.compare.cases import (
    REGRESSION,
    SPEC,
    WEIGHTS,
    evidence,
    predict,
    predict_value,
    probabilities,
    regression_evidence,
    rounded_weights,
)


def spoil(change):
    """``predict`` with its answer changed."""
    return lambda inputs: {"probabilities": change(predict(inputs)["probabilities"].copy())}


def swap_two_rows(answer):
    if len(answer) > 1:
        answer[[0, 1]] = answer[[1, 0]]
    return answer


def set_nan(answer):
    answer[-1, 0] = np.nan
    return answer


def set_infinity(answer):
    answer[0, -1] = np.inf
    return answer


class Frozen:
    """A state that survives the call: every answer is pulled towards the one before."""

    def __init__(self, share: float = 0.5) -> None:
        self.state, self.share = 0.0, share

    def __call__(self, inputs):
        answer = predict(inputs)["probabilities"]
        mixed = (1 - self.share) * answer + self.share * self.state if np.any(self.state) else answer
        self.state = answer.mean()
        return {"probabilities": mixed.astype(np.float32)}


FAULTS = {
    "rows swapped": (spoil(swap_two_rows), "between two calls"),
    "1e-3 added": (spoil(lambda a: a + np.float32(1e-3)), "is off by"),
    "state frozen": (Frozen(), "between two calls"),
    "wrong dtype": (spoil(lambda a: a.astype(np.float64)), "is float64 where the reference gives float32"),
    "wrong shape": (spoil(lambda a: a[:, None, :]), "has shape"),
    "row dropped": (spoil(lambda a: a[:-1]), "has shape"),
    "output missing": (lambda inputs: {}, "missing: probabilities"),
    "output renamed": (lambda i: {"Identity": predict(i)["probabilities"]}, "extra: Identity"),
    "NaN": (spoil(set_nan), "NaN or infinite"),
    "infinity": (spoil(set_infinity), "NaN or infinite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verdict_fails_fault(fault):
    broken, reason = FAULTS[fault]
    verdict = verify(broken, evidence(), SPEC)
    assert verdict.verdict == "fail"
    assert reason in verdict.reason
    assert verdict.next


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8"])
@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "1e-3 added"])
def test_verdict_of_other_precision_fails_fault(precision, fault):
    broken, _ = FAULTS[fault]
    if isinstance(broken, Frozen):
        broken = Frozen()
    assert verify(broken, evidence(), SPEC, precision=precision).verdict == "fail"


def test_int8_fails_when_all_rows_are_reversed():
    verdict = verify(spoil(lambda a: a[::-1]), evidence(), SPEC, precision="int8")
    assert verdict.verdict == "fail"


def test_verdict_passes_the_model_itself():
    verdict = verify(predict, evidence(), SPEC)
    (output,) = verdict.outputs
    assert verdict.verdict == "pass"
    assert output.would_pass_at is not None
    assert output.would_pass_at <= 1e-5
    assert output.n == 205
    assert {1, 2, 3, 200} <= set(output.batches)
    assert verdict.metric is not None
    assert verdict.metric.value == verdict.metric.reference


def test_verdict_passes_float32_in_another_order():
    """Summing features backwards moves the last bits; that is not another model."""

    def backwards(inputs):
        return {"probabilities": probabilities(inputs["point"][:, ::-1], WEIGHTS[::-1])}

    assert verify(backwards, evidence(), SPEC).verdict == "pass"


def test_would_pass_at_is_the_tolerance_that_passes():
    shifted = spoil(lambda a: a + np.float32(1e-3))
    needed = verify(shifted, evidence(), SPEC).outputs[0].would_pass_at
    assert needed == pytest.approx(1e-3, rel=0.01)
    assert verify(shifted, evidence(), SPEC, precision="float16").verdict == "pass"


def test_honest_int8_passes_by_decision():
    weights = rounded_weights(8)
    verdict = verify(
        lambda i: {"probabilities": probabilities(i["point"], weights)}, evidence(), SPEC, precision="int8"
    )
    assert verdict.verdict == "pass"
    assert verdict.outputs[0].tolerance is None
    assert (verdict.outputs[0].max_abs or 0) > 1e-5
    assert verdict.decision
    assert (verdict.decision.clear_agreement or 0) >= 0.98
    assert "% of its range" in verdict.reason


def test_two_bits_fail_by_decision():
    weights = rounded_weights(2)
    verdict = verify(
        lambda i: {"probabilities": probabilities(i["point"], weights)}, evidence(), SPEC, precision="int8"
    )
    assert verdict.verdict == "fail"
    assert "clear samples" in verdict.reason


def test_int8_without_labels_is_info():
    unlabelled = [Case(c.kind, c.inputs, c.outputs) for c in evidence()]
    assert verify(predict, unlabelled, SPEC, precision="int8").verdict == "info"


def test_metric_loss_fails_although_decisions_on_clear_samples_agree():
    """Every near tie goes to the wrong side: clear agreement holds, accuracy does not."""

    def flip_ties(inputs):
        answer = predict(inputs)["probabilities"].copy()
        assert SPEC.decision
        near = margin(answer, SPEC.decision) < 0.1
        answer[near] = np.roll(answer[near], 1, axis=1)
        return {"probabilities": answer}

    cases = evidence()
    cases[0] = replace(cases[0], labels=cases[0].outputs["probabilities"].argmax(axis=1))
    verdict = verify(flip_ties, cases, SPEC, precision="int8")
    assert verdict.decision
    assert verdict.decision.clear_agreement == 1
    assert verdict.verdict == "fail"
    assert "accuracy" in verdict.reason


@pytest.mark.parametrize(("off", "expected"), [(0.1, "pass"), (2.0, "fail")])
def test_quantized_regression_is_judged_by_its_error(off, expected):
    def shifted(inputs):
        return {"value": predict_value(inputs)["value"] + np.float32(off)}

    verdict = verify(shifted, regression_evidence(), REGRESSION, precision="int8")
    assert verdict.verdict == expected
    assert verdict.decision is None
    assert verdict.metric
    assert verdict.metric.name == "mae"


def test_float_regression_passes_by_relative_error():
    def shifted(inputs):
        return {"value": (predict_value(inputs)["value"] * np.float32(1 + 4e-6)).astype(np.float32)}

    verdict = verify(shifted, regression_evidence(), REGRESSION)
    assert verdict.verdict == "pass"
    assert (verdict.outputs[0].max_abs or 0) > 1e-5


def test_relative_error_is_defined_at_zero():
    value, reference = np.array([0, 1e-3, 0, -2], np.float32), np.array([0, 0, 1e-3, 2], np.float32)
    assert relative_error(value, reference).tolist() == pytest.approx([0, 1, 1, 2])
    assert smallest_tolerance(np.array([1e-6], np.float32), np.array([0], np.float32)) == pytest.approx(1e-6)


def test_zero_reference_passes_when_the_answer_is_nearly_zero():
    def predict_zero(inputs):
        return {"probabilities": np.full((len(inputs["point"]), 4), 1e-7, np.float32)}

    cases = [Case(c.kind, c.inputs, {"probabilities": np.zeros_like(c.outputs["probabilities"])}) for c in evidence()]
    verdict = verify(predict_zero, cases, SPEC)
    assert verdict.verdict == "pass"
    assert verdict.outputs[0].max_rel == 1


def test_state_that_one_batch_size_shows_fails():
    """Right for all rows at once, wrong for a batch of three."""
    verdict = verify(lambda i: spoil(swap_two_rows)(i) if len(i["point"]) == 3 else predict(i), evidence(), SPEC)
    assert verdict.verdict == "fail"
    assert "batch of 3" in verdict.reason


def test_nonfinite_reference_asks_for_the_same_nonfinite():
    points = evidence()[0].inputs
    reference = predict(points)["probabilities"].copy()
    reference[5, 0] = np.nan
    cases = [Case("random", points, {"probabilities": reference})]

    def same(inputs):
        answer = predict(inputs)["probabilities"].copy()
        if len(answer) > 5:
            answer[5, 0] = np.nan
        return {"probabilities": answer}

    assert verify(same, cases, SPEC).verdict == "pass"
    assert verify(predict, cases, SPEC).verdict == "fail"


def test_strings_and_integers_must_be_equal():
    spec = ModelSpec(
        "words",
        "",
        (TensorSpec("n", (None,), "int32"),),
        (TensorSpec("w", (None,), "string"), TensorSpec("k", (None,), "int64")),
    )

    def words(inputs, extra=b""):
        count = inputs["n"]
        answer = np.empty(len(count), object)
        answer[:] = [b"w%d" % n + extra for n in count]
        return {"w": answer, "k": count.astype(np.int64) * 3}

    inputs = {"n": np.arange(20, dtype=np.int32)}
    cases = [Case("random", inputs, words(inputs))]
    assert verify(words, cases, spec).verdict == "pass"
    assert verify(lambda i: words(i, b"!"), cases, spec).verdict == "fail"
    assert verify(lambda i: {**words(i), "k": words(i)["k"] + 1}, cases, spec).verdict == "fail"


def test_fixed_batch_is_asked_with_that_batch_only():
    seen = set()

    def watched(inputs):
        seen.add(len(inputs["point"]))
        return predict(inputs)

    assert verify(watched, evidence(), SPEC, fixed_batch=5).verdict == "pass"
    assert seen == {5}


def test_fixed_batch_of_a_slow_target_answers_fewer_rows_but_at_least_four():
    found = exercise(predict, evidence(), fixed_batch=1, seconds=1e-9)
    assert [sum(c.case.kind == kind and c.repeat == 1 for c in found) for kind in ("test", "boundary")] == [4, 4]
    assert judge(found, SPEC).verdict == "pass"


def test_slow_target_answers_fewer_rows_but_at_least_four():
    calls = []

    def counted(inputs):
        calls.append(len(inputs["point"]))
        return predict(inputs)

    found = exercise(counted, evidence(), seconds=1e-9)
    assert max(c.batch for c in found) < 200
    assert min(max(c.batch for c in found if c.case.kind == kind) for kind in ("test", "boundary")) >= 4
    assert judge(found, SPEC).verdict == "pass"


def test_margin_of_a_threshold_is_the_distance_of_two_classes():
    decision = Decision("threshold", "p", threshold=0.5)
    p = np.array([[0.5], [0.55], [1.0], [0.2]], np.float32)
    both = np.concatenate([1 - p, p], axis=1)
    assert margin(p, decision) == pytest.approx(np.abs(both[:, 0] - both[:, 1]))
