"""A run over targets that hang, crash and lie: each costs its own row, and the run goes on."""

from __future__ import annotations

import copy
import io
import json

import numpy as np
import psutil
import pytest
from rich.console import Console

from compare import report, summary, terminal
from compare.cold import ColdCache
from compare.comparison import Budget, Comparison, plan
from compare.guard import Guard, Lanes, TargetCrashed, TargetHung
from compare.proven import Proven
from export.bundle import Export
from models.errors import TargetError


def run(export, targets, *, proven=None, **budget):
    with Lanes() as lanes:
        comparison = Comparison(lanes, budget=Budget(cell=60, **budget), tell=lambda piece: None, proven=proven)
        return comparison.run(plan([export], targets))


def test_run_gives_every_target_its_verdict(linear_export, plugin_targets):
    names = ["numpy-float32", "numpy-int8", "numpy-nudge", "numpy-refuse", "numpy-bug", "numpy-crash", "numpy-absent"]
    outcome = run(linear_export, [plugin_targets[name] for name in names], block=0.01)
    found = {row.target: row.verdict for row in outcome.rows}
    verdicts = {name.removeprefix("numpy-"): found[name].verdict for name in names}
    assert verdicts == {
        "float32": "pass",
        "int8": "pass",
        "nudge": "fail",
        "refuse": "fail",
        "bug": "fail",
        "crash": "fail",
        "absent": "skipped",
    }
    assert "SIGSEGV" in found["numpy-crash"].reason
    assert "RuntimeError: an error that no target" in found["numpy-bug"].reason
    assert all(v.reason and v.next for v in found.values() if v.verdict == "fail")
    timed = next(row for row in outcome.rows if row.target == "numpy-float32")
    assert len(timed.samples) >= 10
    assert timed.first_ms > 0


def test_cell_that_has_passed_is_asked_fewer_rows_until_its_artefact_changes(linear_export, plugin_targets, tmp_path):
    path, targets = tmp_path / "proven.json", [plugin_targets["numpy-slow"], plugin_targets["numpy-nudge"]]

    def rows(environment):
        outcome = run(linear_export, targets, proven=Proven(environment, path), evidence=2.0, again=0.05, steady=False)
        assert [row.verdict.verdict for row in outcome.rows] == ["pass", "fail"]
        slow, nudge = (row.verdict.outputs[0].n for row in outcome.rows)
        assert nudge == 205, "one that has failed is asked everything again"
        return slow

    assert rows("1") == 205
    assert 4 <= rows("1") < 60
    assert rows("2") == 205


def test_interrupted_verdicts_leave_no_process(linear_export, plugin_targets):
    """Ctrl-C while one lane hangs: nobody waits for it."""
    before = set(psutil.Process().children(recursive=True))

    def interrupt(piece):
        if "numpy-float32" in piece:
            raise KeyboardInterrupt

    cells = plan([linear_export], [plugin_targets["numpy-float32"], plugin_targets["numpy-hang"]])
    with Lanes() as lanes:
        comparison = Comparison(lanes, budget=Budget(cell=60), tell=interrupt)
        with pytest.raises(KeyboardInterrupt):
            comparison.run(cells)
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [p for p in left if "resource_tracker" not in str(p.cmdline())]


def test_hanging_target_is_cut_off_and_leaves_no_process(linear_export, plugin_targets):
    before = set(psutil.Process().children(recursive=True))
    with Guard() as guard:
        with pytest.raises(TargetHung, match="no answer within 2 s"):
            guard.call("first", "numpy-hang", linear_export, "serving_default", timeout=2)
        assert guard.call("first", "numpy-float32", linear_export, "serving_default", timeout=60) > 0
    left = [
        p for p in set(psutil.Process().children(recursive=True)) - before if "resource_tracker" not in str(p.cmdline())
    ]
    assert not left


def test_guard_passes_a_targets_own_error_on(linear_export, plugin_targets):
    with Guard() as guard:
        with pytest.raises(TargetError, match="send fewer rows") as caught:
            guard.call("first", "numpy-refuse", linear_export, "serving_default", timeout=60)
        assert not isinstance(caught.value, TargetCrashed)
        with pytest.raises(TargetError, match="no target named 'nothing'; there are:"):
            guard.call("unavailable", "nothing", timeout=60)


def test_outcome_becomes_summary_history_and_report(linear_export, plugin_targets, tmp_path):
    targets = [plugin_targets[name] for name in ("numpy-float32", "numpy-nudge", "numpy-absent")]
    outcome = run(linear_export, targets, block=0.01)
    data, beside = summary.compose(outcome), summary.tables(outcome)
    assert (data["passed"], data["failed"], data["skipped"], data["info"]) == (1, 1, 1, 0)
    path = summary.write(tmp_path / "reports", data, beside, outcome)
    assert json.loads(path.read_text()) == data
    kept = path.parent / "history" / data["run_id"]
    assert json.loads((kept / "summary.json").read_text()) == data
    with np.load(kept / "samples.npz") as samples:
        p50 = np.percentile(samples["linear/2/numpy-float32"], 50) * 1e3
    assert data["rows"][0]["latency"][0]["p50_ms"] == pytest.approx(p50)
    page = report.write(path.parent, data, beside).read_text()
    assert "this runtime &lt;b&gt;never&lt;/b&gt; runs &amp; says so" in page
    assert "<b>never</b>" not in page


def test_terminal_is_readable_in_a_log_of_100_columns(linear_export, plugin_targets, tmp_path):
    outcome = run(linear_export, list(plugin_targets.values())[:4], block=0.01)
    data, beside = summary.compose(outcome), summary.tables(outcome)
    text = io.StringIO()
    terminal.show(Console(file=text, width=100), data, beside, tmp_path / "index.html", "http://127.0.0.1:8080/")
    table = text.getvalue().split("✗ linear")[0]
    assert max(map(len, table.splitlines())) <= 100
    assert "✗ FAIL" in table
    assert "…" not in table
    assert "2 passed, 2 failed, 0 skipped" in text.getvalue()
    assert "http://127.0.0.1:8080/" in text.getvalue()


def test_plan_asks_older_versions_only_where_versions_can_be_asked(plugin_targets, tmp_path):
    rest = copy.copy(plugin_targets["numpy-float32"])
    rest.name = "serving-rest"
    exports = [Export(tmp_path, "m", version) for version in (1, 2)]
    cells = [(row.export.version, row.target) for row in plan(exports, [plugin_targets["numpy-float32"], rest])]
    assert cells == [(2, "numpy-float32"), (2, "serving-rest"), (1, "serving-rest")]
    assert len(plan(exports, [plugin_targets["numpy-float32"], rest], everything=True)) == 4


def test_cold_cache_forgets_when_the_environment_changes(tmp_path):
    path = tmp_path / "cold.json"
    ColdCache(["host", "1.0"], path).put("keras", "artefact", 5000.0)
    assert ColdCache(["host", "1.0"], path).get("keras", "artefact") == 5000.0
    assert ColdCache(["host", "1.1"], path).get("keras", "artefact") is None
    assert ColdCache(["host", "1.0"], path).get("keras", "another") is None


def test_cold_start_is_measured_in_a_process_of_its_own(linear_export, plugin_targets):
    target = plugin_targets["numpy-float32"]
    seconds = target.cold_start(linear_export, {"point": np.zeros((1, 6), np.float32)})
    assert seconds > 0.01  # no Python process starts faster
    with pytest.raises(TargetError, match=r"numpy-bug failed in a process of its own: .*RuntimeError"):
        plugin_targets["numpy-bug"].cold_start(linear_export, {"point": np.zeros((1, 6), np.float32)})
