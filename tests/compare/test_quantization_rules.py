"""Which variant is recommended, what is held against a bar, what the schema refuses."""

from __future__ import annotations

import copy

import jsonschema
import pytest

from compare.quantization import document
from compare.quantization.bars import bars
from compare.quantization.recommend import PURPOSES, recommend
from compare.quantization.run import worst_rows


def row(variant, size, time, *, verdict="pass", ops=("ADD",), floats=(), judged_by="decision", any_batch=False):
    def timing(call, delegate="XNNPACK"):
        timed = {"p50_us": time, "rounds_us": [time, time], "p95_us": time, "cpu_us": time, "n": 10, "error": None}
        return {"call": call, "delegate": delegate, "threads": 1, **timed}

    return {
        "variant": variant,
        "signature": "core",
        "judged_by": judged_by,
        "any_batch": any_batch,
        "error": None,
        "sha256": "0" * 64,
        "bytes": size,
        "gzip_bytes": size // 2,
        "ops": dict.fromkeys(ops, 1),
        "float_islands": dict.fromkeys(floats, 1),
        "full_integer": not floats,
        "recurrent": None,
        "compression": None,
        "quality": {
            "verdict": verdict,
            "reason": "",
            "agreement": {"agreement": 1.0, "clear_agreement": 1.0, "n": 10, "clear_n": 9},
            "metric": {"name": "accuracy", "reference": 0.99, "value": 0.98},
            "max_abs": 0.1,
            "scale": 0.01,
            "scale_source": "output tensor",
            "error_in_scales": 10.0,
            "p99_in_scales": 2.0,
        },
        "trouble": None,
        "memory": None,
        "latency": [timing(call) for call in ("invoke", "predict")],
    }


def float32(**options):
    return row("float32", 100_000, 10.0, floats=("ADD",), judged_by="tolerance", **options)


def chosen(*rows):
    return {found["purpose"]: found["variant"] for found in recommend(rows)}


def test_device_takes_the_smallest_that_passes_and_is_not_too_slow():
    fast, slow, wrong = row("int8", 30_000, 12.0), row("int16x8", 20_000, 13.0), row("qat", 10_000, 5.0, verdict="fail")
    found = recommend([float32(), fast, slow, wrong])[0]
    assert found["variant"] == "int8"
    assert "0.30 ×" in found["reason"]
    assert "smaller, but more than 1.25 × as slow: int16x8" in found["reason"]
    assert "smaller, but does not pass: qat" in found["reason"]


def test_sizes_within_five_percent_go_to_the_faster():
    assert chosen(float32(), row("int8", 30_000, 12.0), row("dynamic", 31_000, 8.0))["device"] == "dynamic"


def test_times_within_noise_go_to_the_nearer():
    near, far = row("int8", 30_000, 12.0), row("pruned-int8", 30_000, 11.5)
    far["quality"]["agreement"]["clear_agreement"] = 0.985
    assert chosen(float32(), far, near)["device"] == "int8"


def test_integer_only_takes_no_float_island_and_any_speed():
    rows = (float32(), row("dynamic", 20_000, 8.0, floats=("ADD",)), row("int8", 30_000, 90.0))
    assert chosen(*rows)["integer-only"] == "int8"
    assert chosen(*rows)["device"] == "dynamic"


def test_phone_keeps_the_values_and_server_any_batch():
    rows = (float32(), row("float16", 50_000, 11.0, judged_by="tolerance"), row("int8", 30_000, 9.0))
    assert chosen(*rows)["phone"] == "float16"
    assert chosen(*rows)["server"] is None
    served = row("server", 101_000, 12.0, floats=("ADD",), judged_by="tolerance", any_batch=True)
    assert chosen(*rows, served)["server"] == "server"


def test_nothing_that_passes_is_told():
    found = recommend([row("int8", 1_000, 1.0, verdict="fail")])
    assert {f["variant"] for f in found} == {None}
    assert found[0]["reason"] == "1 fit, none passes the verdict"


def model(*rows, name="cnn", stand_in=False):
    return {
        "model": name,
        "version": 2,
        "source_sha256": "0" * 64,
        "stand_in": stand_in,
        "task": "digits",
        "metric": None,
        "variants": list(rows),
        "tensorflow": [
            {**row("", 1, time)["latency"][1], "delegate": None, "threads": threads}
            for threads, time in ((1, 60.0), (None, 45.0))
        ],
        "layers": [],
        "calibration": None,
        "service": {
            "request_cpu_us": 450.0,
            "interpreter_cpu_us": 12.0,
            "own_cpu_us": 438.0,
            "least_own_cpu_us": 300.0,
            "n": 100,
            "error": None,
        },
        "recommended": recommend(rows),
    }


def test_bars_hold_against_the_faster_tensorflow():
    found = {bar["what"]: bar for bar in bars([model(float32(), row("int8", 30_000, 10.0))])}
    tensorflow = found["float32 against TensorFlow"]
    assert (tensorflow["value"], tensorflow["holds"]) == (4.5, False)
    assert found["int8 against float32"]["holds"] is True
    assert found["edge service beyond the interpreter's own"]["holds"] is False


def test_ratios_are_taken_within_a_round():
    """Half of the rounds fell into a busy time: the medians of all say 1.5 ×, each round says 2 ×."""
    plain, quantized = float32(), row("int8", 30_000, 10.0)
    plain["latency"][0] |= {"p50_us": 30.0, "rounds_us": [20.0, 20.0, 40.0, 40.0]}
    quantized["latency"][0] |= {"p50_us": 20.0, "rounds_us": [10.0, 10.0, 20.0, 20.0]}
    found = {
        bar["what"]: bar["value"]
        for bar in bars([{**model(float32()), "variants": [plain, quantized], "tensorflow": []}])
    }
    assert found["int8 against float32"] == 2.0


def test_bars_promise_int8_for_convolutions_only():
    found = bars([model(float32(), row("int8", 30_000, 99.0), name="lstm")])
    assert {bar["what"]: bar["holds"] for bar in found}["int8 against float32"] is None


def test_layers_are_looked_into_where_the_error_is_largest_and_of_int8():
    rows = [float32()] + [row(name, 1_000, 1.0) for name in ("dynamic", "int8", "int16x8", "weight-only", "qat")]
    for one, error in zip(rows, (9.0, 0.3, 0.1, 0.2, 0.01, 5.0), strict=True):
        one["quality"]["max_abs"] = error
    rows[-1]["compression"] = {"method": "qat"}  # the distance of trained weights says nothing about rounding
    assert [found["variant"] for found in worst_rows(rows)] == ["dynamic", "int16x8", "int8"]


def test_schema_is_valid_and_takes_a_report():
    jsonschema.Draft202012Validator.check_schema(document.schema())
    composed = document.compose([model(float32(), row("int8", 30_000, 9.0))])
    assert [found["purpose"] for found in composed["models"][0]["recommended"]] == [p.name for p in PURPOSES]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2),
        (("bars", 0, "unit"), "ms"),
        (("models", 0, "variants"), []),
        (("models", 0, "variants", 0, "bytes"), None),
        (("models", 0, "variants", 0, "error"), "cannot be had, and yet there are figures"),
        (("models", 0, "variants", 0, "quality", "verdict"), "skipped"),
        (("models", 0, "variants", 0, "latency", 0, "call"), "sometimes"),
        (("models", 0, "recommended", 0, "reason"), ""),
    ],
)
def test_schema_refuses_what_has_no_meaning(path, value):
    spoiled = copy.deepcopy(document.compose([model(float32())]))
    place = spoiled
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        document.validate(spoiled)
