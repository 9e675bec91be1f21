"""``python -m compare.quantization`` on one model, with real files, TensorFlow and the real service; and its page in a browser."""

from __future__ import annotations

import json
import shutil

import pytest

from compare.browser import Browser, missing_browser
from compare.guard import Guard
from compare.quantization import document, latency
from compare.quantization.__main__ import main
from compare.quantization.files import find_files
from compare.quantization.lite_bench import LiteBench
from export.bundle import Export
from tests.commands import run_command


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder with lite.json and lite.html of ``mlp``, and what the command printed."""
    folder = tmp_path_factory.mktemp("reports")
    done = run_command(main, "--quick", "--models", "mlp", "--variants", "float32,int8", REPORTS=str(folder))
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
def test_report_holds_every_figure(reported):
    folder, printed = reported
    found = json.loads((folder / "lite.json").read_text())
    document.validate(found)
    (model,) = found["models"]
    assert [row["variant"] for row in model["variants"]] == ["float32", "int8"]
    for row in model["variants"]:
        assert row["quality"]["verdict"] == "pass"
        assert row["memory"]["own_bytes"] > 0
        ways = {(t["call"], t["delegate"], t["threads"]) for t in row["latency"]}
        assert {("invoke", "XNNPACK", 1), ("invoke", "none", 1), ("predict", "XNNPACK", 1)} <= ways
        assert all(t["error"] is None and t["n"] and t["p50_us"] <= t["p95_us"] for t in row["latency"])
    int8 = model["variants"][1]
    assert int8["full_integer"]
    assert int8["quality"]["scale_source"] == "output tensor"
    assert int8["quality"]["agreement"]["n"] == 142  # the whole test set
    (tensorflow,) = model["tensorflow"]  # a brief run asks it on one thread only
    assert tensorflow["p50_us"] > 0
    (layers,) = model["layers"]
    assert layers["variant"] == "int8"
    assert {t["op"] for t in layers["tensors"]} == {"FULLY_CONNECTED", "LOGISTIC"}
    assert all(t["scale"] and 0 < t["error"] < 0.2 for t in layers["tensors"])
    service = model["service"]
    assert service["error"] is None
    assert 0 < service["interpreter_cpu_us"] < service["request_cpu_us"]
    assert 0 < service["least_own_cpu_us"] <= service["own_cpu_us"]
    assert {bar["what"] for bar in found["bars"]} >= {
        "float32 against TensorFlow",
        "edge service beyond the interpreter's own",
    }
    assert "mlp v2, roc_auc of Keras" in printed
    assert f"report: {folder / 'lite.html'}" in printed


@pytest.mark.slow
def test_page_opens_from_a_file_without_request_or_error(reported):
    if reason := missing_browser():
        pytest.skip(reason)
    page_file = reported[0] / "lite.html"
    browser = Browser()
    try:
        with browser.context(width=1100, height=800, scheme="light", scale=1) as context:
            page = context.new_page()
            requests, troubles = [], []
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: troubles.append(message.text))
            page.on("pageerror", lambda error: troubles.append(str(error)))
            for scheme in ("light", "dark"):
                requests.clear()
                page.set_viewport_size({"width": 1100, "height": 800})
                page.emulate_media(color_scheme=scheme)
                page.goto(page_file.as_uri())
                page.wait_for_load_state("networkidle")
                assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
                assert not troubles
                for heading in ("Which one to take", "Speed against its bars", "mlp v2", "Where int8 loses"):
                    assert page.get_by_role("heading", name=heading).is_visible()
                assert page.locator("svg.chart").count() >= 3
                assert page.locator("script").count() == 0
                page.set_viewport_size({"width": 375, "height": 800})
                assert page.evaluate("document.documentElement.scrollWidth") <= 375
    finally:
        browser.close()


def test_file_that_cannot_run_costs_its_own_figures(tmp_path, exports):
    """The json fits, the content is no model: what a runtime that refuses, or dies, leaves of the others."""
    export = exports["mlp", 2]
    root = shutil.copytree(export.root / "lite" / "mlp" / "2", tmp_path / "lite" / "mlp" / "2").parents[2]
    shutil.copytree(export.root / "evidence" / "mlp", root / "evidence" / "mlp")
    broken = Export(root, "mlp", 2)
    broken.lite("int8").write_bytes(b"no model")
    with Guard(LiteBench) as guard:
        running = latency.contenders(find_files([broken], ["float32", "int8"]), guard, [1])
        latency.measure(running, rounds=2, seconds=0.001)
    by_variant = {name: [c for c in running if c.variant == name] for name in ("float32", "int8")}
    assert all(c.error is None and len(c.blocks) == 2 for c in by_variant["float32"])
    assert all("not the file that its json describes" in c.error and not c.blocks for c in by_variant["int8"])
    assert all(c.to_json()["p50_us"] is None for c in by_variant["int8"])


def test_unknown_variant_is_one_sentence():
    done = run_command(main, "--variants", "int4")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no variant named 'int4'; choose among float32, ")
    assert len(done.stderr.splitlines()) == 1
