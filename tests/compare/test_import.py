"""A device's benchmark in the comparison: a real run of ``edge bench``, what can be wrong with it, and the report around it."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import compare.run
from compare import devices
from compare.imported import device_name, read_bench, rows_of
from compare.run import Selection, run_comparison
from compare.target import find_target
from edge.answers import decode_tensor
from export.sample_inputs import write_sample_inputs
from models.artifacts import REPOSITORY
from models.errors import ArtifactError, ModelError
from tests.edge.service import run_edge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from export.bundle import Export

    Report = dict[str, Any]

INT8, FLOAT32 = "lite-int8@my-pi-5", "lite-float32@my-pi-5"


@pytest.fixture(scope="module")
def export(exports: dict[tuple[str, int], Export]) -> Export:
    return exports["mlp", 2]


@pytest.fixture(scope="module")
def bench_json(export: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device")
    write_sample_inputs(folder / "inputs", [export])
    done = run_edge(
        *("bench", "--models", export.root / "lite", "--names", "mlp", "--inputs", folder / "inputs"),
        *("--seconds", "0.05", "--threads", 2, 1, "--name", "My Pi 5!", "--json", folder / "bench.json"),
    )
    assert done.returncode == 0, done.stderr
    return folder / "bench.json"


@pytest.fixture
def bench(bench_json: Path) -> Report:
    """To be changed."""
    return json.loads(bench_json.read_text())


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of a comparison without any device: mlp on lite-float32."""
    folder = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare.run, "all_targets", lambda: [find_target("lite-float32")])
        run_comparison(Selection(models=("mlp",), latency=False), folder=folder)
    return folder


@pytest.fixture
def reports(compared: Path, tmp_path: Path) -> Path:
    return shutil.copytree(compared, tmp_path / "reports")


def summary_of(folder: Path) -> Report:
    return json.loads((folder / "summary.json").read_text())


def judged(bench: Report, exports: dict[tuple[str, int], Export]) -> dict[str, Report]:
    """The rows of the summary by target."""
    rows, left_out = rows_of(bench, exports.values())
    assert not left_out
    return {row.target: row.to_json() for row in rows}


def test_rows_of_a_device_pass_by_the_same_verdict(bench: Report, exports: dict[tuple[str, int], Export]):
    rows = judged(bench, exports)
    assert set(rows) == {INT8, FLOAT32}
    for target, row in rows.items():
        assert row["verdict"] == "pass", row["reason"]
        assert row["outputs"][0]["n"] == sum(case.rows for case in exports["mlp", 2].evidence.cases())
        told = next(
            r for r in bench["rows"] if f"lite-{r['variant']}@my-pi-5" == target and r["threads"] == 1
        )  # not the run on two threads, which came first
        (latency,) = row["latency"]
        assert latency["p99_ms"] == told["predict_us"]["p99"] / 1e3
        assert latency["cold_ms"] == told["cold_ms"]
        assert "1 thread" in row["reason"]
    assert rows[INT8]["decision"]["clear_agreement"] >= 0.98
    assert rows[FLOAT32]["outputs"][0]["tolerance"] == 1e-5


def change(encoded: Report, alter: Callable[[np.ndarray], np.ndarray]) -> None:
    altered = alter(decode_tensor(encoded))
    encoded["base64"] = base64.b64encode(altered.tobytes()).decode()


@pytest.mark.parametrize(
    ("variant", "part", "alter", "reason"),
    [
        ("float32", ("outputs", "raw_outputs"), lambda a: a + np.float32(1e-3), "is off by 0.001"),
        ("float32", ("outputs",), lambda a: a[::-1], "changes by"),
        ("int8", ("raw_outputs",), lambda a: a + np.int8(1), "changes by"),
        ("int8", ("outputs", "raw_outputs"), lambda a: a[::-1], "decides like the reference on"),
        ("int8", ("outputs",), lambda a: a[:-1], "damaged or incomplete"),
        (
            "int8",
            ("raw_outputs",),
            lambda a: np.full_like(a, np.nan, np.float32)[: len(a) // 4],
            "damaged or incomplete",
        ),
    ],
)
def test_answers_that_were_tampered_with_fail(
    bench: Report,
    exports: dict[tuple[str, int], Export],
    variant: str,
    part: tuple[str, ...],
    alter: Callable[[np.ndarray], np.ndarray],
    reason: str,
):
    for name in part:
        change(bench["answers"][f"mlp/2/{variant}"][name]["test"]["probability"], alter)
    row = judged(bench, exports)[f"lite-{variant}@my-pi-5"]
    assert row["verdict"] == "fail"
    assert reason in row["reason"]
    assert row["next"]


def test_kind_of_rows_that_was_left_out_fails(bench: Report, exports: dict[tuple[str, int], Export]):
    del bench["answers"]["mlp/2/int8"]["outputs"]["boundary"]
    row = judged(bench, exports)[INT8]
    assert (row["verdict"], "incomplete" in row["reason"]) == ("fail", True)


@pytest.mark.parametrize(
    ("place", "value", "verdict", "reason"),
    [
        (("rows", "sha256"), "0" * 64, "skipped", "measured with another file than that of artifacts/lite"),
        (("answers", "inputs_sha256"), "0" * 64, "skipped", "other inputs than those of today's evidence"),
        (("answers", "sha256"), "0" * 64, "fail", "another file's"),
        (("rows", "error"), "truncated or exchanged", "fail", "truncated or exchanged"),
        (("rows", "refused"), True, "skipped", "it cannot run this"),
        (("answers",), None, "info", "times only"),
    ],
)
def test_row_that_cannot_be_judged_says_why(
    bench: Report,
    exports: dict[tuple[str, int], Export],
    place: tuple[str, ...],
    value: str | bool | None,
    verdict: str,
    reason: str,
):
    if place[0] == "rows":
        for row in bench["rows"]:
            if row["variant"] == "int8":
                row[place[1]] = value
                if place[1] == "refused":
                    row["error"] = "it cannot run this"
    elif value is None:
        del bench["answers"]["mlp/2/int8"]
    else:
        bench["answers"]["mlp/2/int8"][place[1]] = value
    rows = judged(bench, exports)
    assert (rows[INT8]["verdict"], rows[FLOAT32]["verdict"]) == (verdict, "pass")
    assert reason in rows[INT8]["reason"]


def test_emulator_s_times_are_left_out(bench: Report, exports: dict[tuple[str, int], Export]):
    bench["emulated"] = "qemu-aarch64 10.0"
    row = judged(bench, exports)[INT8]
    assert (row["verdict"], row["latency"], row["cpu_us"], row["rss_bytes"]) == ("pass", [], None, None)
    assert "emulated by qemu-aarch64 10.0: times say nothing about a device" in row["reason"]


def test_import_puts_its_rows_into_the_report_that_there_is(bench_json: Path, reports: Path, compared: Path):
    before = summary_of(reports)
    assert devices.import_bench(bench_json, folder=reports) == 0
    after = summary_of(reports)
    newest = [row["target"] for row in after["rows"] if row["version"] == 2]
    assert newest == ["lite-float32", INT8, FLOAT32]
    assert after["passed"] == before["passed"] + 2
    assert "cores" in after["versions"][INT8] or "1 core" in after["versions"][INT8]
    assert INT8 in (reports / "index.html").read_text()
    assert json.loads((reports / "imported" / "my-pi-5.json").read_text()) == json.loads(bench_json.read_text())
    for path in (compared / "history").rglob("*.json"):
        assert (reports / path.relative_to(compared)).read_bytes() == path.read_bytes()

    assert devices.import_bench(bench_json, folder=reports) == 0
    assert summary_of(reports) == after  # twice replaces

    devices.remove_device("my-pi-5", folder=reports)
    assert summary_of(reports) == before
    assert INT8 not in (reports / "index.html").read_text()
    with pytest.raises(ModelError, match="no device named 'my-pi-5' was imported; there are: none"):
        devices.remove_device("my-pi-5", folder=reports)


def test_next_comparison_judges_what_was_imported_anew(
    bench: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    change(bench["answers"]["mlp/2/float32"]["outputs"]["test"]["probability"], lambda a: a + np.float32(1e-3))
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "my-pi-5.json").write_text(json.dumps(bench))
    monkeypatch.setattr(compare.run, "all_targets", lambda: [find_target("lite-int8")])
    assert (
        run_comparison(Selection(models=("mlp",), latency=False), folder=tmp_path) == 1
    )  # a failing row fails the run
    rows = {row["target"]: row["verdict"] for row in summary_of(tmp_path)["rows"] if row["version"] == 2}
    assert rows == {"lite-int8": "pass", INT8: "pass", FLOAT32: "fail"}
    assert FLOAT32 in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: b.pop("rows"), "the file: 'rows' is a required property"),
        (lambda b: b["rows"][0].update(threads="two"), "rows/0/threads: 'two' is not of type 'integer'"),
        (lambda b: b.update(schema=2), "schema: 1 was expected"),
    ],
)
def test_file_of_another_form_is_refused(
    bench: Report, tmp_path: Path, spoil: Callable[[Report], object], message: str
):
    spoil(bench)
    path = tmp_path / "b.json"
    path.write_text(json.dumps(bench))
    with pytest.raises(ArtifactError, match="is not what `edge bench --json` writes") as refused:
        read_bench(path)
    assert message in str(refused.value)
    path.write_bytes(b"PK\3\4 no JSON")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_bench(path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_bench(tmp_path / "missing.json")


def test_model_that_is_not_here_is_left_out(
    bench: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str], reports: Path
):
    unknown = copy.deepcopy(bench["rows"][0]) | {"model": "resnet"}
    path = tmp_path / "b.json"
    path.write_text(json.dumps(bench | {"rows": [*bench["rows"], unknown]}))
    assert devices.import_bench(path, folder=reports) == 0
    assert "left out: resnet version 2: there is no such export here" in capsys.readouterr().out
    path.write_text(json.dumps(bench | {"rows": [unknown]}))
    with pytest.raises(ModelError, match="no row of a model that is here"):
        devices.import_bench(path, folder=reports)


def test_name_becomes_a_part_of_the_target_s(bench: Report, tmp_path: Path):
    names = {"Raspberry Pi 5 Model B": "raspberry-pi-5-model-b", "../../etc": "etc", "über Ⅷ": "ber"}
    for name, cleaned in names.items():
        bench["device"]["name"] = name
        assert device_name(bench) == cleaned
    bench["device"]["name"] = "/////"
    path = tmp_path / "b.json"
    path.write_text(json.dumps(bench))
    with pytest.raises(ModelError, match="choose another: edge bench --name"):
        read_bench(path)


def test_import_of_nothing_is_one_sentence():
    done = subprocess.run([sys.executable, "-m", "compare", "import"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "give the file that `edge bench --json` wrote, or --remove DEVICE" in done.stderr
