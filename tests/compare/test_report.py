"""The report opened as a file in a real browser: no request, no console error, nothing of a name executed."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from compare import report, summary
from compare.bench import Block
from compare.browser import Browser, missing_browser
from compare.comparison import Outcome
from compare.rows import Row
from compare.shift import VersionShift
from compare.verdict import Verdict, verify
from models.artifacts import write_json
from tests.compare.cases import SPEC, evidence, predict

HOSTILE = "<script>document.title='broken'</script>&\"'"


@pytest.fixture
def written(linear_export, tmp_path):
    good = verify(predict, evidence(), SPEC)
    seconds = np.random.default_rng(1).gamma(2, 1e-4, 100)
    facts = {"artifact_bytes": 7100, "artifact_sha256": "0" * 64, "runtime_version": HOSTILE}
    rows = [
        Row(linear_export, "keras", "", "float32", good, first_ms=3.0, cold_ms=900.0, blocks=[Block(seconds, 0.01)]),
        Row(linear_export, "serving-rest", "", "float32", good, first_ms=2.0, blocks=[Block(seconds * 4, None)]),
        Row(linear_export, "lite-int8", "int8", "int8", replace(good, reason=HOSTILE), first_ms=1.0),
        Row(linear_export, "tfjs-wasm", "float32", "float32", Verdict("fail", HOSTILE, HOSTILE)),
        Row(linear_export, "edge-http", "int8", "int8", Verdict("skipped", HOSTILE)),
    ]
    rows[0].facts = rows[1].facts = facts
    rows[0].nonfinite = {"NaN": HOSTILE, "+Inf": "1", "−Inf": "0"}
    shift = VersionShift("accuracy", 0.9, 0.95, 0.97, 0.01, 200)
    outcome = Outcome(rows, [("linear", "keras", 1, 2, shift)])
    data = summary.compose(outcome)
    write_json(tmp_path / "summary.json", data)
    return report.write(tmp_path, data, summary.tables(outcome), note=HOSTILE)


@pytest.fixture(scope="module")
def chromium():
    if reason := missing_browser():
        pytest.skip(reason)
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def open_report(written, chromium):
    """``open_report(width, scheme)``: a page with the report, and the lists of its requests and of its troubles."""
    with contextlib.ExitStack() as stack:

        def opened(width=1100, scheme="light"):
            page = stack.enter_context(chromium.context(width=width, height=800, scheme=scheme, scale=1)).new_page()
            requests, troubles = [], []
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: troubles.append(message.text))
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.goto(written.as_uri())
            page.wait_for_load_state("networkidle")
            return page, requests, troubles

        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_opens_from_a_file_without_request_or_error(written, open_report, scheme):
    page, requests, troubles = open_report(scheme=scheme)
    assert [url for url in requests if not url.startswith("data:")] == [written.as_uri()]
    assert not troubles
    assert page.title().startswith("3 passed, 1 failed")
    for heading in ("Parity", "Latency, one request at a time", "Size against error", "From version to version"):
        assert page.get_by_role("heading", name=heading).is_visible()
    assert page.locator("svg.chart").count() == 2
    assert page.locator("script").count() == 0
    assert HOSTILE in page.inner_text("main")


def test_report_says_every_verdict_without_colour(open_report):
    page, *_ = open_report()
    assert page.locator(".matrix .sign").all_inner_texts() == ["✓", "✓", "✓", "✗", "–"]


def test_report_fits_a_phone(open_report):
    page, *_ = open_report(width=375)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_report_links_to_the_lite_report_once_that_lies_beside_it(open_report, written):
    assert "lite.html" not in written.read_text()
    (written.parent / "lite.html").write_text("what each variant costs")
    report.write_again(written.parent)
    page, *_ = open_report()
    page.get_by_role("link", name="What each .tflite variant costs").click()
    assert page.inner_text("body") == "what each variant costs"
