"""The comparison view on a real summary, in a real Chromium: charts, filters in the address, sorting, and its own rows."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import jsonschema
import numpy as np
import pytest

from compare import report, summary
from compare.bench import Block
from compare.comparison import Outcome
from compare.rows import Row
from compare.verdict import Verdict, verify
from edge.runtime import LiteModel
from models.artifacts import artifacts_root
from tests.web.conftest import WAIT_MS, listen
from tests.web.test_budgets import AXE, FINDINGS
from web.local import running_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Page

    from compare.browser import Browser, Scheme
    from export.bundle import Export
    from tests.web.conftest import StartApp

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=\"document.title='broken'\">&\"'"
LOADED = """() => performance.getEntriesByType("resource").map(({ name, transferSize }) =>
    ({ path: new URL(name).pathname, bytes: transferSize }))"""
FITS = """() => [...document.querySelectorAll("#latency svg")].every((svg) =>
    Number(svg.getAttribute("width")) <= document.querySelector("#latency .plots").clientWidth)"""
DRAWN = "() => document.querySelector('main').ariaBusy === 'false'"
FASTEST = "() => localStorage.getItem('fastest-first')"
MEASURED = "() => document.querySelector('#progress').textContent.startsWith('Measured')"


@pytest.fixture(scope="module")
def reports(exports: dict[tuple[str, int], Export], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on the newest of each model: two .tflite files as they are, one held to what it cannot keep, one skipped."""
    newest = {name: export for (name, _), export in sorted(exports.items())}
    rows = []
    for export in newest.values():
        rows += [
            measured(export, "float32", "float32"),
            measured(export, "int8", "int8"),
            measured(export, "float16", "float32"),
            Row(export, "edge-http", "int8", "int8", Verdict("skipped", HOSTILE)),
        ]
    outcome = Outcome(rows)
    folder = tmp_path_factory.mktemp("reports")
    data, beside = summary.compose(outcome), summary.tables(outcome)
    assert 0 < data["failed"] < data["passed"] + data["failed"]
    summary.write(folder, data, beside, outcome)
    report.write(folder, data, beside)
    return folder


def measured(export: Export, variant: str, held_to: str) -> Row:
    model = LiteModel(export.lite(variant))
    verdict = verify(model.predict, export.evidence.cases(), export.spec, precision=held_to, seconds=0.2)
    first = {name: array[:1] for name, array in export.evidence.cases()[0].inputs.items()}
    seconds = []
    for _ in range(40):
        start = time.perf_counter()
        model.predict(first)
        seconds.append(time.perf_counter() - start)
    size = export.lite(variant).stat().st_size
    block = Block(np.array(seconds), None)
    facts: dict[str, object] = {"artifact_bytes": size, "artifact_sha256": "0" * 64, "runtime_version": model.runtime}
    return Row(
        export, f"lite-{variant}", variant, held_to, verdict, first_ms=1e3 * seconds[0], blocks=[block], facts=facts
    )


@pytest.fixture(scope="module")
def data(reports: Path) -> dict:
    return json.loads((reports / "summary.json").read_text())


@pytest.fixture(scope="module")
def address(reports: Path) -> Iterator[str]:
    with running_app(artifacts=artifacts_root(), reports=reports) as origin:
        yield f"{origin}/comparison.html"


@pytest.fixture
def visit(context: BrowserContext, errors: list[str]) -> Callable[[str], Page]:
    def opened(address: str) -> Page:
        page = context.new_page()
        listen(page, address.partition("/comparison.html")[0], errors)
        page.goto(address)
        page.wait_for_function(DRAWN, timeout=WAIT_MS)
        return page

    return opened


@pytest.fixture(scope="module")
def drawn(browser: Browser, address: str) -> Iterator[tuple[Page, list[str]]]:
    """The page of the whole report, for tests that only look, and what went wrong while it opened."""
    errors: list[str] = []
    with browser.context(width=1400, height=900, scheme="light", scale=1) as context:
        page = context.new_page()
        listen(page, address.partition("/comparison.html")[0], errors)
        page.goto(address)
        page.wait_for_function(DRAWN, timeout=WAIT_MS)
        yield page, errors


def drawn_anew(page: Page, width: int, scheme: Scheme = "light") -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(FITS)


def column(page: Page, name: str) -> list[str]:
    return [cell.strip() for cell in page.locator(f'tbody [data-column="{name}"]').all_inner_texts()]


def names(page: Page) -> list[tuple[str, str]]:
    return list(zip(column(page, "model"), column(page, "target"), strict=True))


def chosen(page: Page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).select_option(value)
    page.wait_for_function(DRAWN)


def run_here(page: Page) -> None:
    page.get_by_role("button", name="Run it in my browser now").click()
    page.wait_for_function(MEASURED, timeout=WAIT_MS)
    page.wait_for_function(DRAWN)


def ended(page: Page) -> bool:
    """Whether no worker is left; one that was starting is ended once it has."""
    for _ in range(WAIT_MS // 100):
        if not page.workers:
            return True
        page.wait_for_timeout(100)
    return False


def test_report_is_shown_with_its_machine_and_every_row(drawn: tuple[Page, list[str]], data: dict) -> None:
    page, errors = drawn
    about = page.locator("#about").inner_text()
    for said in (data["run_id"], data["host"]["cpu"], data["host"]["name"], f"{data['passed']} passed"):
        assert said in about
    assert names(page) == [(row["model"], row["target"]) for row in data["rows"]]
    skipped = page.locator('tr[data-verdict="skipped"]').first
    assert HOSTILE in skipped.inner_text()
    failed = next(row for row in data["rows"] if row["verdict"] == "fail")
    assert failed["reason"] in page.locator('tr[data-verdict="fail"]').first.inner_text()
    assert page.title() == "Export Once: the comparison"
    assert not errors


def test_every_chart_says_the_verdicts_without_colour_and_what_it_shows(
    drawn: tuple[Page, list[str]], data: dict
) -> None:
    page, _ = drawn
    signs = {"pass": "✓", "fail": "✗", "skipped": "–"}
    expected = sorted(signs[row["verdict"]] for row in data["rows"])
    for chart in ("latency", "error", "stages"):
        texts = page.locator(f"#{chart} svg text").all_text_contents()
        assert sorted(text[0] for text in texts if text[:2] in ("✓ ", "✗ ", "– ")) == expected
    drawings = page.locator("figure svg")
    assert drawings.count() == 3 + len({row["model"] for row in data["rows"]})
    assert all(svg.get_attribute("aria-label") and svg.get_attribute("role") == "img" for svg in drawings.all())
    assert page.locator("svg style").count() == 0
    failing = sum(row["verdict"] == "fail" for row in data["rows"])
    assert page.locator("#latency svg path").count() == sum(bool(row["latency"]) for row in data["rows"])
    assert failing == sum(text.startswith("✗") for text in page.locator("#error svg text").all_text_contents())


def test_better_is_up_for_every_metric(drawn: tuple[Page, list[str]], exports: dict[tuple[str, int], Export]) -> None:
    page, _ = drawn
    for export in {name: export for (name, _), export in sorted(exports.items())}.values():
        metric = export.spec.metric
        assert metric
        svg = page.locator(f'#size svg[aria-label^="size against {metric.name} of {export.model}"]')
        better = "higher is better" if metric.higher_is_better else "lower is better"
        assert better in str(svg.get_attribute("aria-label"))


def test_filters_are_in_the_address_and_come_back(
    address: str, visit: Callable[[str], Page], errors: list[str], data: dict
) -> None:
    page = visit(address)
    chosen(page, "model", "mlp")
    assert page.url == f"{address}?model=mlp"
    assert set(column(page, "model")) == {"mlp"}
    assert page.locator("#latency svg").first.get_attribute("aria-label").endswith(": mlp")  # type: ignore[union-attr]
    page.get_by_label("target’s name").press_sequentially("float")
    page.wait_for_function(DRAWN)
    assert page.url == f"{address}?model=mlp&target=float"
    assert column(page, "target") == ["lite-float32", "lite-float16"]
    chosen(page, "verdict", "fail")
    assert names(page) == [("mlp", "lite-float16")]
    page.reload()
    page.wait_for_function(DRAWN)
    assert names(page) == [("mlp", "lite-float16")]
    assert page.get_by_label("verdict", exact=True).input_value() == "fail"
    page.go_back()
    page.wait_for_function(DRAWN)
    assert column(page, "target") == ["lite-float32", "lite-float16"]
    page.go_back()
    page.wait_for_function(DRAWN)
    assert len(names(page)) == 4
    assert page.get_by_label("target’s name").input_value() == ""
    page.get_by_role("button", name="Show all").click()
    assert (page.url, len(names(page))) == (address, len(data["rows"]))
    assert not errors


def test_link_to_what_is_not_there_says_so(address: str, visit: Callable[[str], Page], errors: list[str]) -> None:
    page = visit(f"{address}?model=nobody&kind=serving&version=7")
    assert page.get_by_text("No row is like that").is_visible()
    assert page.get_by_label("model", exact=True).input_value() == "nobody"
    assert page.get_by_role("button", name="Run it in my browser now").is_disabled()
    assert not errors


def test_column_is_sorted_by_keyboard_and_the_order_is_in_the_address(
    address: str, visit: Callable[[str], Page], errors: list[str]
) -> None:
    page = visit(address)
    for name in ("p50", "error", "size"):
        head = page.locator(f'th[data-column="{name}"]')
        for direction, order in (("ascending", ""), ("descending", "&order=descending")):
            head.locator("button").focus()
            page.keyboard.press("Enter")
            assert head.get_attribute("aria-sort") == direction
            assert page.url == f"{address}?sort={name}{order}"
            shown = column(page, name)
            figures = [float(text.replace("−", "-")) for text in shown if text != "–"]
            assert figures == sorted(figures, reverse=direction == "descending")
            assert len(set(figures)) > 3
            assert shown[len(figures) :] == ["–"] * (len(shown) - len(figures))
        page.reload()
        page.wait_for_function(DRAWN)
        assert column(page, name) == shown
        assert page.locator("th[aria-sort=descending]").count() == 1
    assert not errors


def test_download_is_the_report_itself(drawn: tuple[Page, list[str]], reports: Path) -> None:
    page, _ = drawn
    with page.expect_download() as download:
        page.get_by_role("link", name="The report as JSON").click()
    assert download.value.suggested_filename == "summary.json"
    assert download.value.path().read_bytes() == (reports / "summary.json").read_bytes()


def test_browser_adds_its_own_rows(
    address: str, visit: Callable[[str], Page], errors: list[str], exports: dict[tuple[str, int], Export]
) -> None:
    page = visit(f"{address}?model=mlp&target=wasm")
    assert "1 model × 3 runtimes" in page.locator("#plan").inner_text()
    run_here(page)
    here = [f"{name} · here" for name in ("litertjs-wasm", "tfjs-wasm", "tfjs-wasm-threads")]
    assert names(page) == [("mlp", name) for name in here]
    assert column(page, "verdict") == ["✓ pass"] * 3
    assert "tfjs-wasm · here" in str(page.locator("#latency svg").first.text_content())
    assert page.locator("#error svg text", has_text="✓").count() == 3
    assert page.evaluate(FASTEST) is None  # one model says nothing of the others
    with page.expect_download() as download:
        page.get_by_role("link", name="This browser’s rows as JSON").click()
    own = json.loads(download.value.path().read_text())
    rule = {"$ref": "#/$defs/row", "$defs": summary.schema()["$defs"]}
    for row in own["rows"]:
        jsonschema.Draft202012Validator(rule).validate(row)
        (latency,), (output,) = row["latency"], row["outputs"]
        assert latency["cold_ms"] > latency["first_ms"] > latency["p50_ms"]
        assert 0 < latency["p50_ms"] <= latency["p95_ms"] <= latency["p99_ms"]
        assert 0 < latency["n"] <= 200
        assert 0 < output["would_pass_at"] <= output["tolerance"] == 1e-5
        assert row["version"] == max(version for model, version in exports if model == "mlp")
    assert ended(page)
    assert not errors


def test_runtimes_that_were_right_for_every_model_are_the_pages_first_choice(
    address: str, visit: Callable[[str], Page], errors: list[str]
) -> None:
    page = visit(f"{address}?target=litertjs-wasm")
    run_here(page)
    assert page.evaluate(FASTEST) == "litertjs-wasm"
    assert not errors


def test_runtime_that_lies_and_one_that_is_missing_are_rows_with_their_reason(
    address: str, visit: Callable[[str], Page], context: BrowserContext, exports: dict[tuple[str, int], Export]
) -> None:
    """The numbers of LiteRT.js are wrong by what float16 weights cost; the worker of TF.js cannot be loaded."""
    other = exports["mlp", 2].lite("float16").read_bytes()
    context.route("**/lite/mlp/2/float32.tflite*", lambda route: route.fulfill(body=other))
    context.route("**/assets/tfjs-wasm-*.js", lambda route: route.abort())
    page = visit(f"{address}?model=mlp&target=wasm")
    run_here(page)
    rows = dict(zip(column(page, "target"), page.locator("tbody tr").all_inner_texts(), strict=True))
    assert "✗ fail" in rows["litertjs-wasm · here"]
    assert "it answers wrongly here: off by " in rows["litertjs-wasm · here"]
    assert "– skipped" in rows["tfjs-wasm · here"]
    assert "tfjs-wasm does not start here" in rows["tfjs-wasm · here"]


def test_measuring_is_stopped(address: str, visit: Callable[[str], Page], errors: list[str]) -> None:
    page = visit(f"{address}?target=tfjs")
    page.get_by_role("button", name="Run it in my browser now").click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("stopped; what was measured until then stays").wait_for()
    page.wait_for_function(DRAWN)
    assert ended(page)
    assert page.get_by_role("button", name="Run it in my browser now").is_enabled()
    assert page.get_by_role("button", name="Stop").is_hidden()
    assert not errors


def test_without_a_report_the_remedy_is_said_and_the_browser_measures_all_the_same(
    start_app: StartApp, visit: Callable[[str], Page], errors: list[str], tmp_path: Path
) -> None:
    origin = start_app(artifacts=artifacts_root(), reports=tmp_path)
    page = visit(f"{origin}/comparison.html?model=mlp&target=litertjs-wasm")
    assert "run `make demo`" in page.locator("#about").inner_text()
    assert page.get_by_role("link", name="The report as JSON").is_hidden()
    run_here(page)
    assert column(page, "verdict") == ["✓ pass"]
    assert not errors


def test_first_load_is_small_and_holds_no_runtime(address: str, visit: Callable[[str], Page]) -> None:
    page = visit(address)
    loaded = [file for file in page.evaluate(LOADED) if not file["path"].startswith(("/api/", "/report/"))]
    assert sum(file["bytes"] for file in loaded) < 400e3
    assert len({file["path"] for file in loaded}) < 12
    assert not [file["path"] for file in loaded if "tf" in file["path"] or "litert" in file["path"]]
    assert page.workers == []


@pytest.mark.parametrize("width", [360, 1400, 2560])
def test_page_fits_and_only_the_table_scrolls(drawn: tuple[Page, list[str]], width: int) -> None:
    page, _ = drawn
    drawn_anew(page, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#latency svg").last.evaluate("(svg) => svg.getBoundingClientRect().right") <= width
    assert page.locator(".scroll").evaluate("(box) => getComputedStyle(box).overflowX") == "auto"


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")])
def test_page_has_no_serious_accessibility_finding(drawn: tuple[Page, list[str]], width: int, scheme: Scheme) -> None:
    page, _ = drawn
    drawn_anew(page, width, scheme)
    page.evaluate(AXE.read_text())
    rules_kept, serious = page.evaluate(FINDINGS)
    assert serious == []
    assert rules_kept > 15
