"""The page's server: the page, the models' files, the report, and thin proxies to the server and the device.

``python -m web.app --port 8080 --rest http://127.0.0.1:8501 --edge http://127.0.0.1:8090``; Flask on Granian (WSGI).
It needs Flask, Granian, httpx and prometheus_client alone, and none of the other rooms.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, abort, redirect, request, send_from_directory
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from web.catalogue import list_models
from web.headers import CONTENT_TYPES, HEADERS, REPORT_POLICY, headers_of
from web.labels import read_labels
from web.listener import run, serve
from web.metrics import CONTENT_TYPE, Metrics
from web.proxy import BackEnd, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from werkzeug.wrappers import Response as BaseResponse

DIST = Path(__file__).resolve().parent / "demo" / "dist"
BODY_LIMIT = 4 << 20  # bytes; a sample of the largest model here has 2 kB
FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"  # may be kept, but must be asked for each time
MODEL_FOLDERS = ("web", "lite")  # of the artefacts, the page's
MODEL_FILES = (".json", ".bin", ".tflite")


class TimedRequest(Request):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.started = perf_counter()


def create_app(
    *, rest: str, edge: str, artifacts: Path, reports: Path, dist: Path = DIST, body_limit: int = BODY_LIMIT
) -> Flask:
    """``rest`` and ``edge`` are the addresses of the back ends; they may be down."""
    app = Flask("web", static_folder=None)
    app.request_class = TimedRequest
    measured = Metrics()
    app.config["MAX_CONTENT_LENGTH"] = body_limit
    back_ends = {
        place: BackEnd(name, address, observe=partial(measured.back_end, place))
        for place, name, address in (("serving", "server", rest), ("edge", "device", edge))
    }

    @app.get("/healthz")
    def healthz() -> Response:
        if not (dist / "index.html").is_file():
            return _json(refusal("the page is not built; run `make page`"), 503)
        return _json({"status": "ok", "models": len(list_models(artifacts))})

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(measured.page(), content_type=CONTENT_TYPE)

    @app.get("/")
    def index() -> Response:
        return send(dist, "index.html", cache=ASK_AGAIN)

    @app.get("/<name>")
    def top_level(name: str) -> Response:
        return send(dist, name, cache=ASK_AGAIN)

    @app.get("/assets/<path:name>")
    def assets(name: str) -> Response:
        return send(dist / "assets", name, cache=FOR_EVER)  # their names carry their content's hash

    @app.get("/models/<path:name>")
    def model_files(name: str) -> Response:
        parts = name.split("/")
        if parts[0] not in MODEL_FOLDERS or not name.endswith(MODEL_FILES) or any(p.startswith(".") for p in parts):
            abort(404)
        return send(artifacts, name, cache=FOR_EVER if "h" in request.args else ASK_AGAIN)

    @app.get("/report")
    def report_folder() -> BaseResponse:
        return redirect("/report/")

    @app.get("/report/", defaults={"name": "index.html"})
    @app.get("/report/<path:name>")
    def report(name: str) -> Response:
        if name == "index.html" and not (reports / name).is_file():
            return _text("There is no report yet: run `make demo`.", 404)
        answer = send(reports, name, cache=ASK_AGAIN)
        answer.headers["Content-Security-Policy"] = REPORT_POLICY
        return answer

    @app.get("/api/models")
    def catalogue() -> Response:
        return _json({"models": list_models(artifacts), "report": (reports / "index.html").is_file()})

    @app.get("/api/status")
    def status() -> Response:
        known = list_models(artifacts)
        first = known[0]["model"] if known else "none"
        paths = {"serving": f"/v1/models/{first}", "edge": "/v1/models"}
        return _json({name: back_ends[name].status(path) for name, path in paths.items()})

    @app.get("/api/<any(serving, edge):place>/v1/models/<name>")
    def model_status(place: str, name: str) -> Response:
        return forward(place, "GET", f"/v1/models/{name}")

    @app.post("/api/<any(serving, edge):place>/v1/models/<name>:predict")
    def predict(place: str, name: str) -> Response:
        return forward(place, "POST", f"/v1/models/{name}:predict")

    @app.post("/api/<any(serving, edge):place>/v1/models/<name>/versions/<int:version>:predict")
    def predict_version(place: str, name: str, version: int) -> Response:
        return forward(place, "POST", f"/v1/models/{name}/versions/{version}:predict")

    @app.post("/api/serving/v1/models/<name>/labels/<label>:predict")
    def predict_label(name: str, label: str) -> Response:
        return forward("serving", "POST", f"/v1/models/{name}/labels/{label}:predict")

    @app.get("/api/labels/<name>")
    def labels(name: str) -> Response:
        check(name)
        return _json(read_labels(back_ends["serving"], name))

    def forward(place: str, method: str, path: str) -> Response:
        body = request.get_data(cache=False) if method == "POST" else None
        if request.content_length is None and body and len(body) >= body_limit:  # chunked: cut off there, silently
            raise RequestEntityTooLarge
        check(path)
        code, content = back_ends[place].forward(method, path, body)
        return _json(content, code)

    def check(path: str) -> None:
        if not path.isprintable() or any(character in path for character in "?#%\\") or ".." in path:
            abort(404)

    def send(folder: Path, name: str, *, cache: str) -> Response:
        answer = send_from_directory(folder, name, conditional=True, etag=True)
        answer.headers.update({"Cache-Control": cache, **headers_of(Path(name).name)})
        if kind := CONTENT_TYPES.get(Path(name).suffix):
            answer.headers["Content-Type"] = kind
        return answer

    @app.after_request
    def secure(answer: Response) -> Response:
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    @app.after_request
    def count(answer: Response) -> Response:
        route = request.endpoint or "none"
        asked: TimedRequest = request._get_current_object()  # type: ignore[attr-defined]
        measured.request(route, answer.status_code, perf_counter() - asked.started)
        return answer

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> Response:
        return _json(refusal(f"the request is larger than {body_limit} bytes; send fewer rows at a time"), 413)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        sentence = f"{request.method} {request.path}: {error.name}"
        if request.path.startswith("/api/"):
            return _json(refusal(sentence), error.code or 500)
        return _text(sentence, error.code or 500)

    return app


def _json(content: Any, status: int = 200) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Response(body, status=status, mimetype="application/json", headers={"Cache-Control": "no-store"})


def _text(sentence: str, status: int) -> Response:
    return Response(f"{sentence}\n", status=status, content_type="text/plain; charset=utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m web.app",
        description="Serve the page, the report and the proxies.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=8080, help="TCP port")
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in")
    parser.add_argument("--rest", default="http://127.0.0.1:8501", metavar="URL", help="the model server's REST API")
    parser.add_argument("--edge", default="http://127.0.0.1:8090", metavar="URL", help="the device's service")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), metavar="DIR", help="the built artefacts")
    parser.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="where the report is")
    options = parser.parse_args(argv)
    serve(
        create_app,
        {
            "rest": options.rest,
            "edge": options.edge,
            "artifacts": options.artifacts.resolve(),
            "reports": options.reports.resolve(),
        },
        bind=options.bind,
        port=options.port,
    )


if __name__ == "__main__":
    run(main)
