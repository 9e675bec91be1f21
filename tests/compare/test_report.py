"""The report opened as a file in a real browser: no request, no console error, nothing of a name executed."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from compare import report, summary
from compare.bench import Block
from compare.browser import Browser, missing_browser
from compare.charts import comparison
from compare.comparison import Outcome
from compare.rows import Row
from compare.shift import VersionShift
from compare.verdict import Verdict, verify
from models.artifacts import REPOSITORY, write_json
from tests.compare import load_shapes
from tests.compare.cases import SPEC, evidence, predict
from tests.compare.conftest import make_linear_export

AXE = REPOSITORY / "web" / "demo" / "node_modules" / "axe-core" / "axe.min.js"
SECTIONS = {"load": "Under load", "load-curves": "Latency over throughput", "load-events": "Events under load"}
HOSTILE = "<script>document.title='broken'</script>&\"'"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The page of a comparison without a load test, in a folder that no test changes."""
    export = make_linear_export(tmp_path_factory.mktemp("artifacts"))
    folder = tmp_path_factory.mktemp("bare")
    good = verify(predict, evidence(), SPEC)
    seconds = np.random.default_rng(1).gamma(2, 1e-4, 100)
    facts = {"artifact_bytes": 7100, "artifact_sha256": "0" * 64, "runtime_version": HOSTILE}
    rows = [
        Row(export, "keras", "", "float32", good, first_ms=3.0, cold_ms=900.0, blocks=[Block(seconds, 0.01)]),
        Row(export, "serving-rest", "", "float32", good, first_ms=2.0, blocks=[Block(seconds * 4, None)]),
        Row(export, "lite-int8", "int8", "int8", replace(good, reason=HOSTILE), first_ms=1.0),
        Row(export, "tfjs-wasm", "float32", "float32", Verdict("fail", HOSTILE, HOSTILE)),
        Row(export, "edge-http", "int8", "int8", Verdict("skipped", HOSTILE)),
    ]
    rows[0].facts = rows[1].facts = facts
    rows[0].nonfinite = {"NaN": HOSTILE, "+Inf": "1", "−Inf": "0"}
    shift = VersionShift("accuracy", 0.9, 0.95, 0.97, 0.01, 200)
    outcome = Outcome(rows, [("linear", "keras", 1, 2, shift)])
    data = summary.compose(outcome)
    write_json(folder / "summary.json", data)
    return report.write(folder, data, summary.tables(outcome), note=HOSTILE)


@pytest.fixture(scope="module")
def loaded(bare, tmp_path_factory):
    """The same with load tests, a search and events beside it, rendered again."""
    folder = tmp_path_factory.mktemp("loaded") / "reports"
    shutil.copytree(bare.parent, folder)
    load_shapes.write_all(folder)
    report.write_again(folder)
    return folder / bare.name


@pytest.fixture
def written(bare, tmp_path):
    """A copy of ``bare`` for a test that changes it."""
    return shutil.copytree(bare.parent, tmp_path / "reports") / bare.name


@pytest.fixture(scope="module")
def tab():
    """One page of one browser for all tests; each loads what it wants to see."""
    if reason := missing_browser():
        pytest.skip(reason)
    browser = Browser()
    with browser.context(width=1100, height=800, scheme="light", scale=1) as context:
        yield context.new_page()
    browser.close()


@pytest.fixture
def open_report(tab):
    """``open_report(path, width, scheme)``: its page, and the lists of its requests and of its troubles."""
    requests, troubles = [], []
    listeners = {
        "request": lambda request: requests.append(request.url),
        "console": lambda message: troubles.append(message.text),
        "pageerror": lambda error: troubles.append(str(error)),
    }

    for event, listener in listeners.items():
        tab.on(event, listener)

    def opened(path, width=1100, scheme="light"):
        tab.set_viewport_size({"width": width, "height": 800})
        tab.emulate_media(media="screen", color_scheme=scheme)
        tab.goto(path.as_uri())
        return tab, requests, troubles

    yield opened
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_opens_from_a_file_without_request_or_error(bare, open_report, scheme):
    page, requests, troubles = open_report(bare, scheme=scheme)
    page.wait_for_load_state("networkidle")
    assert [url for url in requests if not url.startswith("data:")] == [bare.as_uri()]
    assert not troubles
    assert page.title().startswith("3 passed, 1 failed")
    for heading in ("Parity", "Latency, one request at a time", "Size against accuracy", "From version to version"):
        assert page.get_by_role("heading", name=heading).is_visible()
    assert page.locator("svg.chart").count() == 4
    assert page.locator("script").count() == 0
    assert HOSTILE in page.inner_text("main")


def test_report_says_every_verdict_without_colour(bare, open_report):
    page, *_ = open_report(bare)
    assert page.locator(".matrix .sign").all_inner_texts() == ["✓", "✓", "✓", "✗", "–"]


@pytest.mark.parametrize("load", [False, True])
def test_report_fits_a_phone(open_report, bare, loaded, load):
    page, *_ = open_report(loaded if load else bare, width=375)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_what_was_not_measured_is_said_with_its_command(bare, open_report):
    page, *_ = open_report(bare)
    told = {
        "Under load": "make loadtest",
        "Latency over throughput": "make loadtest-search",
        "Where the time goes": "make loadtest",
        "Events under load": "make loadtest-events",
    }
    for heading, command in told.items():
        section = page.locator("section", has=page.get_by_role("heading", name=heading, exact=True))
        assert section.locator("p").all_inner_texts() == [f"not measured yet: {command}"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_load_is_shown_with_its_charts_and_what_is_not_valid(open_report, loaded, scheme):
    page, requests, troubles = open_report(loaded, scheme=scheme)
    page.wait_for_load_state("networkidle")
    assert [url for url in requests if not url.startswith("data:")] == [loaded.as_uri()]
    assert not troubles
    load = page.locator("section", has=page.get_by_role("heading", name="Under load", exact=True))
    loops = load.locator("tbody tr:not(.none) td:nth-child(3)").all_inner_texts()
    assert loops == ["open", "open", "closed, 4 users"]  # edge-http, then serving-rest
    assert load.locator(".mark").all_inner_texts() == ["✗ no", "✓ yes", "✓ yes"]
    assert load_shapes.LATE in load.inner_text()
    assert "1 × a wrong answer <b>" in load.inner_text()
    events = page.locator("section", has=page.get_by_role("heading", name="Events under load"))
    assert events.locator("figure h3").all_inner_texts() == [
        "linear on serving-rest: publish",
        "linear on serving-rest: kill",
    ]
    assert all(text in events.inner_text() for text in ("version 3 available", "kill -9", "250 failed"))
    phases = page.locator("section", has=page.get_by_role("heading", name="Where the time goes"))
    assert "Left out, not valid: linear on edge-http, open." in phases.inner_text()
    assert "edge-http" not in "".join(phases.locator("svg text").all_text_contents())
    head = page.locator("header .beside").all_inner_texts()
    assert head == [
        "Load: smoke, 3 runs, 3 with failed requests, 1 not valid. "
        "Events: publish: 0 of 1,000 requests failed; kill: 250 of 1,000 requests failed."
    ]
    for link in page.locator("header .beside a").all():
        assert page.locator(f"section{link.get_attribute('href')}").count() == 1
    colours = page.locator("figure svg.chart text").evaluate_all("all => all.map(t => getComputedStyle(t).fill)")
    ink, soft = page.evaluate(
        "['--ink', '--soft'].map(name => { const p = document.createElement('p'); p.style.color = `var(${name})`;"
        " document.body.append(p); return getComputedStyle(p).color; })"
    )
    assert {ink, soft} <= set(colours)
    assert ("22, 24, 29" in ink) == (scheme == "light")


def test_highest_rate_says_where_it_is_only_a_lower_bound_and_when_it_was_found(open_report, loaded):
    page, *_ = open_report(loaded)
    section = page.locator("section", has=page.get_by_role("heading", name="Latency over throughput"))
    rest, grpc = section.locator("tbody tr").all_inner_texts()
    assert "at least 560/s" in grpc
    assert grpc.endswith("; found 2026-11-25T04:00:00+00:00 on vm")
    assert "\t400/s" in rest
    assert "found" not in rest
    assert "serving-grpc at least 560/s" in section.locator("svg").text_content()
    table = (loaded.parent / "csv" / "curves.csv").read_text()
    assert ",560.0,at least,2026-11-25T04:00:00+00:00,vm" in table


@pytest.mark.parametrize("damaged", ["summary.json", "tables.json"])
def test_damaged_comparison_does_not_lose_a_load_test(written, damaged):
    """``make loadtest`` renders the report again; what the comparison left is then as it is."""
    load_shapes.write_all(written.parent)
    for path in written.parent.rglob(damaged):
        path.write_text("{")
    report.write_again(written.parent)
    assert load_shapes.LATE in written.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "damaged",
    [
        {
            "load": ("{", "load.json cannot be used"),
            "load-curves": ('{"schema": 1, "curves": 3}', "load-curves.json cannot be used"),
        },
        {
            "load": ('{"schema": 2, "cells": []}', "load.json is of form 2, not 1"),
            "load-events": ('{"schema": 1, "events": [{"model": NaN}]}', "NaN is no number"),
        },
        {"load": ('{"schema": 1, "run_id": "a", "created": "b", "cells": [{"model": "m"}]}', "no 'target'")},
    ],
    ids=["load-curves", "load-events", "load"],
)
def test_damaged_load_file_is_said_in_its_section_and_the_rest_stands(open_report, written, damaged):
    """Two at a time at most, so that there is a rest; every report that is drawn costs a second."""
    load_shapes.write_all(written.parent)
    for name, (content, _) in damaged.items():
        (written.parent / f"{name}.json").write_text(content)
    report.write_again(written.parent)
    page, _, troubles = open_report(written)
    page.wait_for_load_state("networkidle")
    assert not troubles
    for name, (_, words) in damaged.items():
        section = page.locator("section", has=page.get_by_role("heading", name=SECTIONS[name], exact=True))
        assert words in section.inner_text()
    assert page.locator("svg.chart").count() > 4


@pytest.mark.slow
def test_load_test_without_a_comparison_has_a_report_too(tmp_path, open_report):
    report.write_again(tmp_path)
    assert not (tmp_path / "index.html").exists()
    load_shapes.write_all(tmp_path)
    report.write_again(tmp_path)
    page, *_ = open_report(tmp_path / "index.html")
    assert page.inner_text("h1") == "Nothing was compared"
    assert page.get_by_text("not measured yet: make demo").is_visible()
    assert page.locator("svg.chart").count() == 4  # the curves, the phases, two events


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (390, "light")])
def test_report_has_no_serious_accessibility_finding(open_report, loaded, width, scheme):
    if not AXE.is_file():
        pytest.skip("no axe-core here; `npm ci` in web/demo brings it")
    page, *_ = open_report(loaded, width=width, scheme=scheme)
    page.evaluate(AXE.read_text())
    serious = page.evaluate("""async () => (await axe.run()).violations
        .filter(({ impact }) => impact === "serious" || impact === "critical")
        .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`)""")
    assert serious == []


def test_report_prints_without_cutting_anything_off(open_report, loaded):
    page, *_ = open_report(loaded)
    page.set_viewport_size({"width": 703, "height": 1000})  # A4 less its margins, in CSS pixels
    page.emulate_media(media="print")
    assert (
        page.evaluate(
            "[...document.querySelectorAll('table, svg')].map(e => e.getBoundingClientRect().right).filter(right => right > 703)"
        )
        == []
    )
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000


@pytest.mark.slow
def test_every_chart_is_a_file_of_its_own(open_report, loaded):
    page, _, troubles = open_report(loaded)
    links = page.locator("figcaption a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert len(links) == 2 * page.locator("svg.chart").count()
    assert {path.name for path in (loaded.parent / "charts").iterdir()} == {
        link.removeprefix("charts/") for link in links
    }
    for link in links:
        path = loaded.parent / link
        if link.endswith(".svg"):
            root = ElementTree.parse(path).getroot()
            size = tuple(int(float(root.get(side))) for side in ("width", "height"))
            assert size[0] == 440
            with Image.open(path.with_suffix(".png")) as picture:
                assert picture.format == "PNG"
                assert all(abs(p - 2 * s) <= 2 for p, s in zip(picture.size, size, strict=True))
                assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
            page.goto(path.as_uri())
    assert not troubles


def test_same_data_give_the_same_files(written):
    folder = written.parent
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report.write_again(folder)
    again = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any(path.parent.name == "charts" for path in again)
    differing = [path.name for path in again if path.name != "index.html" and again[path] != before.get(path)]
    assert differing in ([], ["report.json"])  # which holds the note, and a second rendering has none


def test_csv_and_json_hold_what_the_page_shows(loaded, open_report):
    folder = loaded.parent
    told = json.loads((folder / "report.json").read_text())
    assert told["missing"] == {}
    names = {path.stem for path in (folder / "csv").iterdir()}
    assert {"parity", "latency", "cost", "load", "curves", "events"} <= names <= told.keys()
    for name in names:
        with (folder / "csv" / f"{name}.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert len(table) == len(told[name])
        for read, row in zip(table, told[name], strict=True):
            for column, value in row.items():
                if isinstance(value, str):
                    assert read[column] == value
                elif value is None:
                    assert read[column] == ""
                else:
                    assert float(read[column]) == value
    p99 = next(row["latency_p99_ms"] for row in told["load"] if row["loop"] == "closed")
    assert p99 == load_shapes.latencies(1.2)["p99"]
    page, *_ = open_report(loaded)
    links = page.locator("footer a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert all((folder / link).is_file() for link in links)
    assert {"report.json", "summary.json", "csv/parity.csv", "csv/events.csv"} <= set(links)


@pytest.mark.slow
def test_names_of_25_targets_do_not_touch(tab, tmp_path):
    times = [
        (
            f"lite-variant-{i}@tflite-runtime",
            {"p50_ms": 1.1**i, "p95_ms": 1.3 * 1.1**i, "p99_ms": 2 * 1.1**i, "first_ms": 9.0},
        )
        for i in range(25)
    ]
    sizes = [(name, 1000.0 * (1 + i % 5), 10.0 * (1 + i // 5)) for i, (name, _) in enumerate(times)]
    drawn = [
        comparison.latency(times, name="a", title="a"),
        comparison.starts(times, name="b", title="b"),
        comparison.size_against_time(
            [(f"lite-{i}@pi", *at) for i, (_, *at) in enumerate(sizes)], str, name="c", title="c"
        ),
    ]
    tab.set_viewport_size({"width": 440, "height": 800})
    for chart in drawn:
        path = tmp_path / f"{chart.name}.svg"
        path.write_text(chart.file)
        tab.goto(path.as_uri())
        boxes = tab.evaluate("""[...document.querySelectorAll('text')].map(t => { const b = t.getBoundingClientRect();
            return [t.textContent, b.left, b.right, b.top + 2, b.bottom - 2]; })""")
        assert len(boxes) > 12
        for i, (name, left, right, top, bottom) in enumerate(boxes):
            assert left >= 0, name
            assert right <= 441, name
            for other, *box in boxes[i + 1 :]:
                assert left >= box[1] or right <= box[0] or top >= box[3] or bottom <= box[2], f"{name} on {other}"


@pytest.mark.slow
def test_report_links_to_the_lite_report_once_that_lies_beside_it(open_report, written):
    assert "lite.html" not in written.read_text()
    (written.parent / "lite.html").write_text("what each variant costs")
    report.write_again(written.parent)
    page, *_ = open_report(written)
    page.get_by_role("link", name="What each .tflite variant costs").click()
    assert page.inner_text("body") == "what each variant costs"
