"""The page's server, in its own environment: proxies and their limits, headers, caching, errors, a clean stop."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from compare import report
from models.artifacts import REPOSITORY, artifacts_root
from tests.compare import load_shapes
from web.local import command

if TYPE_CHECKING:
    from collections.abc import Callable

    from export.bundle import Export
    from tests.web.conftest import StartApp

PREDICT = "/api/serving/v1/models/mlp:predict"
ENOUGH = 1e-5
POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'"


def test_predict_through_both_proxies_equals_asking_the_back_ends(
    page_address: str, exports: dict[tuple[str, int], Export]
) -> None:
    case = exports["mlp", 2].evidence.cases()[0]
    (rows,), (reference,) = case.inputs.values(), case.outputs.values()
    body = {"instances": rows[:3].tolist()}
    served = httpx.post(f"{page_address}{PREDICT.replace(':predict', '/versions/2:predict')}", json=body)
    assert abs(reference[:3] - served.json()["predictions"]).max() < ENOUGH
    device = httpx.post(f"{page_address}/api/edge/v1/models/mlp:predict", json=body)
    assert abs(reference[:3] - device.json()["predictions"]).max() < 0.1  # int8
    status = httpx.get(f"{page_address}/api/status").json()
    assert (status["serving"]["up"], status["edge"]["up"], status["edge"]["variant"]) == (True, True, "int8")


def test_labels_lead_to_their_version_and_say_which_it_is(
    page_address: str, exports: dict[tuple[str, int], Export]
) -> None:
    labels = httpx.get(f"{page_address}/api/labels/mlp").json()
    assert labels["reason"] is None
    assert set(labels["labels"]) == {"stable", "canary"}
    for label, found in labels["labels"].items():
        assert found["state"] == "AVAILABLE"
        case = exports["mlp", found["version"]].evidence.cases()[0]
        (rows,), (reference,) = case.inputs.values(), case.outputs.values()
        path = PREDICT.replace(":predict", f"/labels/{label}:predict")
        served = httpx.post(f"{page_address}{path}", json={"instances": rows[:3].tolist()})
        assert abs(reference[:3] - served.json()["predictions"]).max() < ENOUGH
    assert labels["labels"]["canary"]["version"] == 2
    unknown = httpx.post(f"{page_address}{PREDICT.replace(':predict', '/labels/none:predict')}", json={"instances": []})
    assert unknown.status_code == 400
    assert unknown.json() == {"error": "Unrecognized servable version label: none"}


def test_labels_of_a_model_that_is_not_served_and_of_a_server_that_is_down_are_a_reason(
    page_address: str, start_app: StartApp, free_port: Callable[[], int]
) -> None:
    other = httpx.get(f"{page_address}/api/labels/nothing")
    assert other.status_code == 200
    assert other.json() == {"labels": {}, "reason": "Could not find any versions of model nothing"}
    rest = f"http://127.0.0.1:{free_port()}"
    down = httpx.get(f"{start_app(rest=rest)}/api/labels/mlp")
    assert down.status_code == 200
    assert down.json() == {"labels": {}, "reason": f"the server does not answer at {rest}; run `make status`"}


def test_every_version_is_listed_with_files_and_samples_of_its_own(page_address: str) -> None:
    for entry in httpx.get(f"{page_address}/api/models").json()["models"]:
        assert [version["version"] for version in entry["versions"]] == [2, 1]
        assert entry["versions"][0] == {name: entry[name] for name in ("version", "files", "samples")}
        for version in entry["versions"]:
            samples = httpx.get(f"{page_address}{version['samples']}").json()
            assert (samples["model"], samples["version"]) == (entry["model"], version["version"])
            for file in version["files"].values():
                assert f"/{entry['model']}/{version['version']}/" in file["url"]


def test_back_ends_that_are_down_are_named_in_one_sentence(start_app: StartApp, free_port: Callable[[], int]) -> None:
    rest = f"http://127.0.0.1:{free_port()}"
    address = start_app(rest=rest, edge=rest)
    answer = httpx.post(f"{address}{PREDICT}", json={"instances": [[0]]})
    assert answer.status_code == 502
    assert answer.json() == {"error": f"the server does not answer at {rest}; run `make status`"}
    status = httpx.get(f"{address}/api/status").json()
    assert not status["serving"]["up"]
    assert "the device does not answer" in status["edge"]["reason"]


@pytest.mark.slow  # waits for the proxy's time limit
def test_back_end_that_hangs_gives_504(start_app: StartApp, back_end: Callable[[bytes, float], str]) -> None:
    address = start_app(rest=back_end(b"{}", 60))
    answer = httpx.post(f"{address}{PREDICT}", json={}, timeout=30)
    assert answer.status_code == 504
    assert "did not answer within 10 s" in answer.json()["error"]


def test_back_end_that_speaks_html_is_never_passed_on(
    start_app: StartApp, back_end: Callable[[bytes, float], str]
) -> None:
    address = start_app(rest=back_end(b"<script>alert(1)</script>", 0))
    answer = httpx.post(f"{address}{PREDICT}", json={})
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/json"
    assert "no model server" in answer.json()["error"]


def test_back_end_with_an_endless_answer_is_cut_off(
    start_app: StartApp, back_end: Callable[[bytes, float], str]
) -> None:
    address = start_app(rest=back_end(b"[" + b"1," * (9 << 20) + b"1]", 0))
    answer = httpx.post(f"{address}{PREDICT}", json={}, timeout=30)
    assert answer.status_code == 502
    assert "larger than" in answer.json()["error"]


def test_body_over_the_limit_is_refused_before_it_reaches_a_back_end(page_address: str) -> None:
    for content in (b"x" * (5 << 20), iter([b"x" * (1 << 20)] * 5)):  # with its length told, and chunked
        answer = httpx.post(f"{page_address}{PREDICT}", content=content)
        assert answer.status_code == 413
        assert "send fewer rows" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/serving/v1/models/mlp:classify"),
        ("GET", "/api/serving/v1/models/mlp/metadata"),
        ("POST", "/api/other/v1/models/mlp:predict"),
        ("POST", "/api/serving/v1/models/..%2f..%2fadmin:predict"),
        ("POST", "/api/serving/v1/models/mlp%3fx:predict"),
        ("POST", "/api/serving/v1/models/mlp%0ax:predict"),
        ("POST", "/api/serving/v1/models/mlp/labels/..%2f..%2fadmin:predict"),
        ("POST", "/api/serving/v1/models/mlp/labels/stable%3fx:predict"),
        ("POST", "/api/serving/v1/models/mlp/labels/stable:classify"),
        ("POST", "/api/edge/v1/models/mlp/labels/stable:predict"),  # the device knows no labels
        ("GET", "/api/labels/..%2f..%2fadmin"),
        ("GET", "/api/labels/mlp%3fx"),
        ("GET", "/models/..%2f..%2fpyproject.toml"),
        ("GET", "/models/web/converter.log"),
        ("GET", "/models/web/.tmp-1-float32/model.json"),
        ("GET", "/models/evidence/mlp/2.json"),
        ("GET", "/assets/..%2findex.html"),
        ("GET", "/report/..%2f..%2fpyproject.toml"),
    ],
)
def test_paths_outside_of_what_the_page_needs_are_refused(page_address: str, method: str, path: str) -> None:
    assert httpx.request(method, f"{page_address}{path}").status_code in (404, 405)


def test_names_from_the_address_come_back_as_text(page_address: str) -> None:
    answer = httpx.get(f"{page_address}/<script>alert(1)</script>")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_answer_carries_the_policy_and_the_isolation(page_address: str) -> None:
    for path in ("/", "/bench.html", "/api/models", "/nothing"):
        headers = httpx.get(f"{page_address}{path}").headers
        assert headers["content-security-policy"].startswith(POLICY), path
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-embedder-policy"] == "require-corp"


def test_content_is_cached_by_its_hash(page_address: str) -> None:
    index = httpx.get(f"{page_address}/")
    assert index.headers["cache-control"] == "no-cache"
    asset = index.text.split('src="/assets/')[1].split('"')[0]
    assert "immutable" in httpx.get(f"{page_address}/assets/{asset}").headers["cache-control"]
    entry = httpx.get(f"{page_address}/api/models").json()["models"][0]
    described = json.loads((artifacts_root() / "web" / entry["model"] / "2" / "float32.json").read_text())
    graph, lite = entry["files"]["graph"], entry["files"]["lite"]
    assert graph["url"].endswith(f"?h={described['sha256'][:16]}")
    for file in (graph, lite):
        answer = httpx.get(f"{page_address}{file['url']}")
        assert "immutable" in answer.headers["cache-control"]
        assert answer.status_code == 200
    assert len(answer.content) == lite["bytes"]
    plain = httpx.get(f"{page_address}{graph['url'].partition('?')[0]}")
    assert plain.headers["cache-control"] == "no-cache"
    again = httpx.get(plain.url, headers={"If-None-Match": plain.headers["etag"]})
    assert again.status_code == 304


def test_worker_of_the_threads_alone_may_run_code_from_blobs(page_address: str) -> None:
    workers = sorted(path.name for path in (REPOSITORY / "web" / "demo" / "dist" / "assets").glob("*.js"))
    assert len(workers) > 6
    for name in workers:
        policy = httpx.get(f"{page_address}/assets/{name}").headers["content-security-policy"]
        assert ("blob:" in policy) == name.startswith("tfjs-wasm-threads-"), name


def test_report_is_served_with_a_policy_of_its_own_and_its_absence_said(start_app: StartApp, tmp_path: Path) -> None:
    address = start_app(reports=tmp_path)
    missing = httpx.get(f"{address}/report", follow_redirects=True)
    assert missing.status_code == 404
    assert "make demo" in missing.text
    (tmp_path / "index.html").write_text("<!doctype html><style>p {color: red}</style><p>report")
    found = httpx.get(f"{address}/report", follow_redirects=True)
    assert found.text.endswith("report")
    assert "style-src 'self' 'unsafe-inline'" in found.headers["content-security-policy"]


def test_what_the_report_links_to_is_served_beside_it(start_app: StartApp, tmp_path: Path) -> None:
    load_shapes.write_all(tmp_path)
    report.write_again(tmp_path)
    address = start_app(reports=tmp_path)
    page = httpx.get(f"{address}/report/")
    links = re.findall(r'href="([^"#:]+)"', page.text)
    kinds = {
        ".svg": "image/svg+xml",
        ".png": "image/png",
        ".csv": "text/csv; charset=utf-8",
        ".json": "application/json",
    }
    assert {Path(link).suffix for link in links} == set(kinds)
    for link in links:
        found = httpx.get(f"{address}/report/{link}")
        assert found.content == (tmp_path / link).read_bytes()
        assert found.headers["content-type"] == kinds[Path(link).suffix]


def test_model_that_could_not_be_converted_is_listed_with_its_reason(start_app: StartApp, tmp_path: Path) -> None:
    folder = tmp_path / "web" / "odd" / "3"
    folder.mkdir(parents=True)
    (folder / "samples.json").write_text("{}")
    (folder / "float32.json").write_text(json.dumps({"error": "no kernel for Erfc", "sha256": None, "bytes": None}))
    address = start_app(artifacts=tmp_path)
    (entry,) = httpx.get(f"{address}/api/models").json()["models"]
    assert (entry["model"], entry["version"]) == ("odd", 3)
    assert entry["files"] == {
        "graph": {"url": None, "bytes": None, "error": "no kernel for Erfc"},
        "lite": {"url": None, "bytes": None, "error": "it was not converted to TFLite; run `make deploy-all`"},
    }


def test_taken_port_is_one_sentence() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = subprocess.run(command("--port", port), cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: cannot listen on 127.0.0.1 port {port}: Address already in use; choose another with --port or --bind"
    ]


def test_sigterm_ends_it_cleanly_and_frees_the_port(spawn: Callable[..., subprocess.Popen]) -> None:
    from tests.conftest import pick_free_port

    port = pick_free_port()
    process = spawn(*command("--port", port), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    for line in process.stdout:
        if b"Started worker" in line:
            break
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
