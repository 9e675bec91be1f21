"""``edge bench`` as a device runs it: from its own environment, on real files, its JSON against the committed schema."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest

from edge.answers import decode_tensor
from edge.device import conditions
from edge.runtime import LiteModel
from edge.sample_inputs import inputs_sha256, make_up_inputs, read_inputs
from export.sample_inputs import write_sample_inputs
from models.artifacts import REPOSITORY
from tests.edge.service import call_edge, run_edge

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from export.bundle import Export

SCHEMA = json.loads((REPOSITORY / "compare" / "device_bench.schema.json").read_text())


def bench(
    models: Path, *arguments: object, run: Callable[..., subprocess.CompletedProcess[str]] = run_edge
) -> subprocess.CompletedProcess[str]:
    return run("bench", "--models", models, "--seconds", "0.05", *arguments)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, exports: dict[tuple[str, int], Export]) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    write_sample_inputs(folder, [exports["lstm", 2]])
    return folder


@pytest.fixture(scope="module")
def measured(lite_folder: Path, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The JSON and the printed table of one run over a model with a state, on one and two threads."""
    written = tmp_path_factory.mktemp("bench") / "pi.json"
    done = bench(
        lite_folder,
        *("--names", "lstm", "--threads", 1, 2, "--inputs", inputs, "--name", "My Pi", "--json", written),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(written.read_text()), done.stdout


def test_json_is_in_the_committed_form(measured: tuple[dict[str, Any], str]):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(measured[0])
    assert measured[0]["device"]["name"] == "My Pi"


def test_every_file_is_measured_on_every_number_of_threads(measured: tuple[dict[str, Any], str]):
    rows = {(r["variant"], r["threads"]): r for r in measured[0]["rows"]}
    assert set(rows) == {(variant, threads) for variant in ("int8", "float32") for threads in (1, 2)}
    for row in rows.values():
        assert row["error"] is None
        # Cold holds the start of Python and the import of the runtime, first only the file, steady neither.
        assert row["cold_ms"] > row["first_ms"] > row["invoke_us"]["p50"] / 1e3
        assert row["predict_us"]["p50"] <= row["predict_us"]["p95"] <= row["predict_us"]["p99"]
        assert row["predict_us"]["n"] >= 10
        assert row["peak_rss_bytes"] > 10e6


def test_table_tells_ratios_conditions_and_where_the_rows_came_from(measured: tuple[dict[str, Any], str], inputs: Path):
    table = measured[1]
    assert table.count("int8 : float32 = ") == 2
    assert f"rows recorded in {inputs / 'lstm' / '2.npz'}" in table
    assert "not shown by this system" in table or "temperature" in table
    assert "emulat" not in table


def test_answers_are_those_of_the_files(
    measured: tuple[dict[str, Any], str], inputs: Path, exports: dict[tuple[str, int], Export]
):
    answers = measured[0]["answers"]
    assert set(answers) == {"lstm/2/int8", "lstm/2/float32"}
    for key, told in answers.items():
        name, version, variant = key.split("/")
        model = LiteModel(exports[name, int(version)].lite(variant))
        kinds = read_inputs(inputs / name / f"{version}.npz")
        assert told["sha256"] == model.sha256
        assert told["inputs_sha256"] == inputs_sha256(kinds)
        for kind, rows in kinds.items():
            for output in model.outputs:
                raw = decode_tensor(told["raw_outputs"][kind][output.name])
                assert raw.dtype == output.dtype
                answer = decode_tensor(told["outputs"][kind][output.name])
                np.testing.assert_array_equal(answer, model.predict(rows)[output.name])
                np.testing.assert_array_equal(answer, output.to_raw(raw, rows))


def test_broken_file_costs_its_own_row(lite_folder: Path, tmp_path: Path):
    for name in ("int8.tflite", "int8.json", "float32.json", "float32.tflite"):
        place = tmp_path / "models" / "mlp" / "2" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((lite_folder / "mlp" / "2" / name).read_bytes())
    broken = tmp_path / "models" / "mlp" / "2" / "int8.tflite"
    broken.write_bytes(broken.read_bytes()[:-9])
    done = bench(tmp_path / "models", "--json", tmp_path / "b.json", "--emulated", "no emulator at all")
    report = json.loads((tmp_path / "b.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert done.returncode == 0, done.stderr
    int8, float32 = report["rows"]
    assert "truncated or exchanged" in int8["error"]
    assert (int8["sha256"], int8["refused"]) == (None, False)
    assert float32["error"] is None
    # Without recorded rows nothing can be judged; in an emulator no process of its own is started, and each time is marked.
    assert report["answers"] == {}
    assert "rows made up" in done.stdout
    assert float32["cold_ms"] is None
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  float32")]
    assert line.endswith("(emulated)")
    assert "says nothing about a device" in done.stdout

    broken.with_name("float32.json").unlink()
    done = bench(tmp_path / "models")
    assert done.returncode == 1  # nothing was measured
    assert "a model is its .tflite file together with that json" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--seconds", "0"), "--seconds 0 is no time"),
        (("--threads", "0"), "--threads 0 is no number of threads"),
        (("--names", "resnet"), "no model named 'resnet'"),
        (("--variants", "int3"), "no model with the variants int3"),
        (("--runtime", "onnx"), "the runtime 'onnx' is not installed here; there are: ai-edge-litert"),
        (("--inputs", "/nowhere"), "there is no folder /nowhere; give another one with --inputs"),
        (("--json", "/nowhere/b.json"), "cannot write /nowhere/b.json"),
    ],
)
def test_wrong_options_are_one_sentence(lite_folder: Path, arguments: tuple[str, ...], sentence: str):
    done = bench(lite_folder, *arguments, run=call_edge)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_delegate_that_is_missing_costs_its_rows(lite_folder: Path):
    done = bench(lite_folder, "--names", "mlp", "--variants", "int8", "--delegate", "default", "/no/libedgetpu.so.1")
    assert done.returncode == 0, done.stderr
    assert "not measured" in done.stdout
    assert "/no/libedgetpu.so.1" in done.stdout


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_made_up_rows_are_near_what_the_model_was_trained_on(exports: dict[tuple[str, int], Export], variant: str):
    """In raw units: a breast-cancer feature is no number around zero."""
    model = LiteModel(exports["mlp", 2].lite(variant))
    (rows,) = make_up_inputs(model.description).values()
    assert model.predict(rows)["probability"].shape == (16, 1)
    if variant == "int8":  # its json holds the normalisation
        real = exports["mlp", 2].evidence.cases()[0].inputs["features"]
        assert (np.abs(rows["features"].mean(0) - real.mean(0)) < 2 * real.std(0)).all()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("throttled=0x0", "no"),
        ("throttled=0x50005", "under-voltage now, throttled now, under-voltage since boot, throttled since boot"),
        ("error=1", None),
    ],
)
def test_throttling_of_a_raspberry_pi_is_told_in_words(
    answer: str, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """vcgencmd is a fake: no other machine than a Raspberry Pi has it."""
    program = tmp_path / "vcgencmd"
    program.write_text(f"#!/bin/sh\necho {answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert conditions()["throttled"] == told
