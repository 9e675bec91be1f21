"""The committed schema: what it takes and what it refuses."""

from __future__ import annotations

import copy

import jsonschema
import pytest

from compare import summary
from compare.comparison import Outcome
from compare.rows import Row
from compare.verdict import Verdict, verify
from tests.compare.cases import SPEC, evidence, predict


@pytest.fixture
def composed(linear_export):
    passed = Row(linear_export, "numpy", "", "float32", verify(predict, evidence(), SPEC))
    failed = Row(linear_export, "other", "", "float32", Verdict("fail", "off by 1", "Look at the first layer."))
    return summary.compose(Outcome([passed, failed]))


def test_schema_is_valid_and_takes_a_summary(composed):
    jsonschema.Draft202012Validator.check_schema(summary.schema())
    summary.validate(composed)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rows", 1, "next"), ""),
        (("rows", 1, "reason"), ""),
        (("rows", 0, "outputs"), []),
        (("rows", 0, "verdict"), "perhaps"),
        (("rows", 0, "outputs", 0, "max_abs"), -1.0),
        (("rows", 0, "extra"), 1),
        (("schema",), 2),
        (("run_id",), "yesterday"),
    ],
)
def test_schema_refuses_what_has_no_meaning(composed, path, value):
    spoiled = copy.deepcopy(composed)
    place = spoiled
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        summary.validate(spoiled)


def test_schema_refuses_a_row_without_a_field(composed):
    for field in list(composed["rows"][0]):
        spoiled = copy.deepcopy(composed)
        del spoiled["rows"][0][field]
        with pytest.raises(jsonschema.ValidationError):
            summary.validate(spoiled)
