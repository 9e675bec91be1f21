"""Two runs beside each other: what is noise, what changed, and what cannot be told. Samples with a seed; no machine is timed."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from compare import history, repeats, runs, trial
from models.artifacts import REPOSITORY, write_json
from models.errors import ModelError
from tests.commands import run_command
from tests.compare import load_shapes

MODELS, TARGETS, BLOCKS, CALLS = ("cnn", "mlp"), tuple(f"lite-{i}" for i in range(6)), 10, 30
ROW = {
    "variant": "",
    "precision": "float32",
    "verdict": "pass",
    "reason": "",
    "outputs": [{"name": "y", "n": 100, "max_abs": 1e-7, "tolerance": 1e-5}],
    "metric": None,
    "artifact_bytes": 1000,
    "artifact_sha256": "a" * 64,
}
HOST = {"name": "vm", "cpu": "EPYC", "cores": 2, "system": "Linux"}


@pytest.fixture
def keep(tmp_path):
    """``keep(run_id, seed, …)``: a run in the history with lognormal times; the run as it is read."""

    def kept(run_id, seed, *, machine=1.0, slower=None, wobble=0.01, blocks=BLOCKS, marked=True, change=None, **run):
        generator = np.random.default_rng(seed)
        rows, samples = [], {}
        for model in MODELS:
            state = machine * generator.lognormal(0, wobble)  # of the machine, while this model is asked
            for i, target in enumerate(run.get("targets", TARGETS)):
                key = f"{model}/2/{target}"
                base = 1e-4 * 1.7**i * state * generator.lognormal(0, wobble) * (slower or {}).get(key, 1.0)
                samples[key] = base * generator.lognormal(0, 0.08, blocks * CALLS)
                if marked:
                    samples[f"{key}:calls"] = np.full(blocks, CALLS)
                    samples[f"{key}:cpu_seconds"] = 0.9 * samples[key].reshape(blocks, CALLS).sum(axis=1)
                latency = {"cold_ms": None, "first_ms": 3.0 + seed, "p50_ms": 1e3 * base, "repeat": blocks}
                row = {**ROW, "model": model, "version": 2, "target": target, "latency": [latency]}
                rows.append(row | (change or {}).get(key, {}))
        folder = tmp_path / "history" / run_id
        folder.mkdir(parents=True)
        np.savez(folder / "samples.npz", **samples)
        write_json(
            folder / "summary.json",
            {
                "run_id": run_id,
                "host": run.get("host", HOST),
                "versions": {"numpy": run.get("numpy", "2")},
                "rows": rows,
            },
        )
        return history.read_run(tmp_path, run_id)

    return kept


def said(result, says, figure="p50"):
    return {
        f"{f['group'].split()[0]}/2/{f['row']}" for f in result["figures"] if (f["says"], f["figure"]) == (says, figure)
    }


@pytest.mark.parametrize("wobble", [0.0, 0.03, 0.2])
def test_two_runs_of_the_same_are_noise(keep, wobble):
    results = [
        runs.compare(keep(f"a{seed}", seed, wobble=wobble), keep(f"b{seed}", 100 + seed, wobble=wobble))
        for seed in range(8)
    ]
    judged = [figure["says"] for result in results for figure in result["figures"]]
    assert len(judged) == 8 * 3 * len(MODELS) * len(TARGETS)
    assert judged.count("changed") <= 0.05 * len(judged)
    assert judged.count("noise") + judged.count("changed") == len(judged)


@pytest.mark.parametrize(("factor", "machine"), [(1.5, 1.0), (1.5, 1.3), (0.6, 1.0), (0.6, 0.7)])
def test_row_that_changed_is_found_whatever_the_machine_does(keep, factor, machine):
    key = "mlp/2/lite-3"
    result = runs.compare(keep("a", 1), keep("b", 2, machine=machine, slower={key: factor}))
    for figure in ("p50", "p95", "CPU"):
        assert said(result, "changed", figure) == {key}
    (found,) = [f for f in result["figures"] if f["says"] == "changed" and f["figure"] == "p50"]
    assert found["ratio_beside_the_others"] == pytest.approx(factor, rel=0.1)
    assert found["ratio"] == pytest.approx(factor * machine, rel=0.15)
    assert found["p"] < repeats.SURE


def test_several_runs_taken_together_differ_less(keep, tmp_path):
    key = "cnn/2/lite-4"
    for seed in range(6):
        keep(f"a{seed}", seed, wobble=0.2, marked=seed != 1)
        keep(f"b{seed}", 50 + seed, wobble=0.2, slower={key: 1.8})
    a, b = (history.read_runs(tmp_path, [f"{side}{seed}" for seed in range(6)]) for side in "ab")
    assert len(a.samples[f"{key}:calls"]) == 6 * BLOCKS
    assert said(runs.compare(a, b), "changed") == {key}
    assert f"{key}:cpu_seconds" not in a.samples  # one of the six did not keep it
    assert f"{key}:cpu_seconds" in b.samples


def test_rows_without_even_blocks_are_left_out_of_runs_taken_together(keep, tmp_path):
    for run_id, marked in (("a0", False), ("a1", True)):
        keep(run_id, 1, marked=marked)
    path = tmp_path / "history" / "a0" / "samples.npz"
    with np.load(path) as found:
        np.savez(path, **{key: found[key][:-1] if key.startswith("cnn") else found[key] for key in found.files})
    together = history.read_runs(tmp_path, ["a0", "a1"])
    assert {key.split("/")[0] for key in together.samples} == {"mlp"}


def test_smaller_than_what_matters_is_noise(keep):
    result = runs.compare(keep("a", 1, wobble=0), keep("b", 2, wobble=0, slower={"cnn/2/lite-1": 1.03}))
    assert result["changed"] == 0


def test_machine_that_is_slower_is_said_and_changes_no_row(keep, tmp_path):
    result = runs.compare(keep("a", 1), keep("b", 2, machine=1.3))
    assert result["changed"] == 0
    (told,) = [m["told"] for m in result["machine"] if m["figure"] == "p50"]
    assert told.startswith("p50: the machine was 1.3")
    assert told.endswith("× slower in B: the medians of 12 of 12 rows moved together")
    back = runs.compare(history.read_run(tmp_path, "b"), history.read_run(tmp_path, "a"))
    assert "faster in B" in next(m["told"] for m in back["machine"] if m["figure"] == "p50")


def test_too_few_repeats_or_rows_are_said(keep):
    few = runs.compare(keep("a", 1, blocks=3), keep("b", 2, blocks=3, slower={"mlp/2/lite-3": 3.0}))
    assert {f["says"] for f in few["figures"]} == {repeats.FEW_REPEATS}
    assert few["too_few"] == len(few["figures"])
    one = {"targets": TARGETS[:1]}
    alone = runs.compare(keep("c", 1, **one), keep("d", 2, slower={"mlp/2/lite-0": 3.0}, **one))
    assert {f["says"] for f in alone["figures"]} == {repeats.FEW_ROWS}


def test_older_runs_have_blocks_of_as_many_requests(keep):
    key = "cnn/2/lite-2"
    result = runs.compare(keep("a", 1, marked=False), keep("b", 2, slower={key: 2.0}))
    assert said(result, "changed") == {key}
    old = keep("c", 3, marked=False)
    assert [len(block) for block in history.blocks(old, key)] == [CALLS] * BLOCKS
    uneven = replace(old, samples={key: old.samples[key][:-1]})
    assert history.blocks(uneven, key) == []
    assert runs.compare(uneven, old)["figures"] == []


def test_outputs_are_compared_exactly_and_the_surroundings_told(keep):
    change = {"cnn/2/lite-0": {"verdict": "fail", "artifact_sha256": "b" * 64}, "mlp/2/lite-1": copy.deepcopy(ROW)}
    change["mlp/2/lite-1"]["outputs"][0]["max_abs"] = np.nextafter(1e-7, 1)
    change["mlp/2/lite-2"] = {
        "outputs": [{"name": "y", "n": 50, "max_abs": 3.0, "tolerance": 1e-5}]
    }  # asked fewer rows
    b = keep("b", 2, change=change, host=HOST | {"cpu": "Xeon"}, numpy="3")
    result = runs.compare(keep("a", 1), b)
    assert {(c["row"], c["what"]) for c in result["exact"]} == {
        ("cnn/2/lite-0", "verdict"),
        ("cnn/2/lite-0", "artifact_sha256"),
        ("mlp/2/lite-1", "max_abs_error"),
    }
    assert any("EPYC in A, Xeon in B" in sentence for sentence in result["differences"])
    assert "numpy: 2 in A, 3 in B" in result["differences"]
    assert {s["figure"] for s in result["single"]} == {"first_ms"}


def load_run(folder, run_id, p50s, *, failed=0, seed=0):
    """A run of load tests: a cell for each target, the moments of its timeline around its p50."""
    generator = np.random.default_rng(seed)
    cells = []
    for i, p50 in enumerate(p50s):
        cell = load_shapes.cell(f"target-{i}", "open", p50) | {"failed": failed if i == 0 else 0}
        for moment in cell["timeline"]:
            for name, factor in (("p50_ms", 1.0), ("p99_ms", 3.0)):
                moment[name] = factor * p50 * float(generator.lognormal(0, 0.05))
        cells.append(cell)
    cells.append(load_shapes.cell("edge-http", "open", 9.0 + seed, invalid=load_shapes.LATE))
    kept = folder / "history" / run_id
    kept.mkdir(parents=True)
    (kept / "load.json").write_text(json.dumps({**load_shapes.HEAD, "run_id": run_id, "cells": cells}))
    return history.read_run(folder, run_id)


def test_load_tests_are_compared_over_the_moments_of_their_timelines(tmp_path):
    usual = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    a = load_run(tmp_path, "a", usual, failed=2, seed=1)
    same = runs.compare(a, load_run(tmp_path, "b", usual, failed=3, seed=2))
    assert same["changed"] == 0
    assert [f["says"] for f in same["failures"]] == ["noise"]
    assert same["invalid"] == ["linear on edge-http, open"] * 2
    assert len(same["figures"]) == 2 * len(usual)
    worse = runs.compare(a, load_run(tmp_path, "c", [1.0, 1.5, 2.0, 2.5, 6.0, 3.5], failed=40, seed=3))
    changed = {(f["row"], f["figure"]) for f in worse["figures"] if f["says"] == "changed"}
    row = "linear on target-4, open 100/s"
    assert changed == {(row, "p50 under load"), (row, "p99 under load")}
    assert [f["says"] for f in worse["failures"]] == ["changed"]


@pytest.mark.filterwarnings("error")
def test_cell_in_which_every_request_failed_has_no_times_and_counts_as_failed(tmp_path):
    usual = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    a = load_run(tmp_path, "a", usual)
    dead = {"answered": 0, "failed": 400, "timeline": load_shapes.timeline(16, 1.0, dead=range(16))}
    b = replace(a, run_id="b", cells=[a.cells[0] | dead, *a.cells[1:]])
    result = runs.compare(a, b)
    assert {f["row"] for f in result["figures"]} == {f"linear on target-{i}, open 100/s" for i in range(1, 6)}
    assert [(f["b"], f["says"]) for f in result["failures"]] == [((400, 400), "changed")]


def test_trial_counts_what_is_called_changed_between_runs_of_the_same(keep, tmp_path, monkeypatch, capsys):
    found = [keep(f"a{seed}", seed, wobble=0.2) for seed in range(4)]
    told, by_test, by_rules = trial.trial(found)
    assert told == {figure: 6 * len(MODELS) * len(TARGETS) for figure in ("p50", "p95", "CPU")}
    assert by_test.total() > 0.5 * told.total()  # 20 % from run to run, of which the repeats know nothing
    assert by_rules.total() < 0.05 * told.total()
    monkeypatch.setenv("REPORTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["trial", *(run.run_id for run in found)])
    assert trial.main() == 0
    shown = capsys.readouterr().out
    assert "Called changed in 6 pairs of 4 runs" in shown
    assert re.search(rf"all +{told.total()} +{by_test.total()}, [\d.]+ % +{by_rules.total()}, [\d.]+ %", shown)


def test_runs_without_anything_in_common_are_refused(keep, tmp_path):
    with pytest.raises(ModelError, match="a and b have no row in common"):
        runs.compare(keep("a", 1), load_run(tmp_path, "b", [1.0]))


def test_holm_corrects_as_published():
    assert repeats.holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert repeats.smallest_p(5, 5) == pytest.approx(2 / 252)


def command(folder, *arguments):
    return run_command(runs.main, *arguments, REPORTS=str(folder))


def test_command_lists_compares_and_refuses(keep, tmp_path):
    keep("20260101-000000", 1)
    keep("20260102-000000", 2, slower={"cnn/2/lite-0": 2.0})
    listed = command(tmp_path).stdout
    assert all(f"2026010{i}-000000" in listed for i in (1, 2))
    assert "make compare-runs A=20260101-000000 B=20260102-000000" in listed
    shown = command(tmp_path, "20260101-000000", "20260102-000000")
    assert shown.returncode == 0, shown.stderr
    assert "CHANGED +" in shown.stdout
    assert "outputs, verdicts and artefacts: the same" in shown.stdout
    refused = command(tmp_path, "20260101-000000", "yesterday")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: there is no run 'yesterday'")
    assert "there are: 20260101-000000, 20260102-000000" in refused.stderr


@pytest.mark.slow
def test_command_in_a_process_of_its_own_ends_without_a_traceback(keep, tmp_path):
    keep("20260101-000000", 1)
    asked = [sys.executable, "-m", "compare.runs", "20260101-000000", "yesterday"]
    environment = {**os.environ, "REPORTS": str(tmp_path)}
    done = subprocess.run(asked, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no run 'yesterday'")
    assert "Traceback" not in done.stderr


def test_result_as_json(keep, tmp_path, monkeypatch, capsys):
    keep("20260101-000000", 1)
    keep("20260102-000000", 2, slower={"cnn/2/lite-0": 2.0})
    monkeypatch.setenv("REPORTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["runs", "20260101-000000", "20260102-000000", "--json"])
    assert runs.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changed"] == 3  # p50, p95 and CPU of one row
    assert told["noise"] == len(told["figures"]) - 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["20260101-000000"], "beside which run"),
        (["../../etc", "20260101-000000"], "there is no run '../../etc'"),
        (["20260101-000000", "20260101-000000"], "run 20260101-000000 is given 2 times"),
        (["a, a,a", "20260101-000000"], "run a is given 3 times"),
    ],
)
def test_run_that_is_not_there_is_refused(keep, tmp_path, monkeypatch, arguments, words):
    keep("20260101-000000", 1)
    monkeypatch.setenv("REPORTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["runs", *arguments])
    with pytest.raises(ModelError, match=re.escape(words)):
        runs.main()


def damaged(folder, what):
    """Break one file of a run: what the sentence about it says."""
    if what == "archive":
        (folder / "samples.npz").write_bytes((folder / "samples.npz").read_bytes()[:-40])
        return "samples.npz cannot be used"
    if what == "no archive":
        (folder / "samples.npz").write_text("nothing")
        return "samples.npz cannot be used"
    if what in ("calls", "seconds", "object"):
        with np.load(folder / "samples.npz") as found:
            samples = dict(found)
        key = "cnn/2/lite-0"
        if what == "calls":
            samples[f"{key}:calls"] = samples[f"{key}:calls"][1:]
        elif what == "seconds":
            samples[key][3] = 0
        else:
            samples[key] = np.array([None, 1.0])
        np.savez(folder / "samples.npz", **samples)
        told = {"calls": "does not add up to its 300 requests", "seconds": "not above 0", "object": "cannot be used"}
        return told[what]
    text = {"json": "{", "no rows": '{"run_id": "a"}', "other": "[]"}.get(what)
    if text is not None:
        (folder / "summary.json").write_text(text)
        return "no 'rows'" if what == "no rows" else "summary.json cannot be used"
    (folder / "load.json").write_text('{"schema": 2}')
    return "load.json is of form 2, not 1"


@pytest.mark.parametrize(
    "what", ["archive", "no archive", "calls", "seconds", "object", "json", "no rows", "other", "load"]
)
def test_damaged_run_is_listed_as_such_and_not_compared(keep, tmp_path, monkeypatch, capsys, what):
    for i in (1, 2, 3):
        keep(f"2026010{i}-000000", i)
    words = damaged(tmp_path / "history" / "20260102-000000", what)
    monkeypatch.setenv("REPORTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["runs"])
    assert runs.main() == 0
    listed = capsys.readouterr().out
    assert words in listed.splitlines()[0]
    assert "20260102-000000" in listed.splitlines()[0]
    assert "make compare-runs A=20260101-000000 B=20260103-000000" in listed
    monkeypatch.setattr(sys, "argv", ["runs", "20260101-000000", "20260102-000000"])
    with pytest.raises(ModelError, match=re.escape(words)):
        runs.main()


def test_without_runs_the_list_says_how_to_make_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPORTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["runs"])
    assert runs.main() == 0
    assert "run make demo" in " ".join(capsys.readouterr().out.split())
