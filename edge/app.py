"""The HTTP service: TF Serving's REST form, so that one client serves the device and the server.

``GET /healthz``, ``GET /metrics``, ``GET /v1/models``, ``GET /v1/models/<m>``, ``POST /v1/reload``,
``POST /v1/models/<m>[/versions/<v>]:predict``. Errors are ``{"error": "…"}``.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from functools import lru_cache
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from edge.bearer import brings_token
from edge.errors import EdgeError
from edge.json_tensors import format_answer, parse_request
from edge.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from edge.library import ModelLibrary
    from edge.runtime import LiteModel

PREDICT = re.compile(r"/v1/models/([A-Za-z0-9_.-]+)(?:/versions/([0-9]{1,18}))?:predict")
STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class EdgeRequest(Request):
    model: LiteModel | None = None  # whose answer it is, for the metrics


class EdgeFlask(Flask):
    """Flask, with a clock around each request and a short way for predictions.

    Flask's contexts take 100 µs, more than most models here. A plain prediction is therefore answered in ``wsgi_app``,
    by the functions that Flask's own route uses; what is not plain in any way goes to Flask.
    """

    request_class = EdgeRequest

    def __init__(self, library: ModelLibrary, *, token: bytes | None, body_limit: int) -> None:
        super().__init__("edge", static_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = body_limit
        self.library, self.token, self.body_limit = library, token, body_limit
        self.metrics = Metrics(library)

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = perf_counter()
        model = self._plainly_asked(environ)
        if model is None:
            return super().wsgi_app(environ, start_response)
        try:
            status, body = 200, self.answer(model, environ["wsgi.input"].read())
        except EdgeError as error:
            status, body = error.status, _error(error)
        except Exception as error:
            status, body = 500, _unforeseen(error)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(STATUS_LINES[status], headers)
        self.metrics.request("predict", model, status, perf_counter() - started)
        return [body]

    def full_dispatch_request(self) -> Response:
        started = perf_counter()
        response = super().full_dispatch_request()
        asked: EdgeRequest = request._get_current_object()  # type: ignore[attr-defined]
        self.metrics.request(asked.endpoint or "none", asked.model, response.status_code, perf_counter() - started)
        return response

    def answer(self, model: LiteModel, body: bytes) -> bytes:
        """A request's body → the answer's. Raises EdgeError."""
        inputs, by_row = parse_request(body, model.inputs)
        started = perf_counter()
        outputs = model.predict(inputs)
        rows = max(map(len, inputs.values()))
        self.metrics.inference(model, rows, perf_counter() - started)
        return format_answer(outputs, rows=by_row)

    def is_allowed(self, header: str | None) -> bool:
        return self.token is None or brings_token(header, self.token)

    def _plainly_asked(self, environ: WSGIEnvironment) -> LiteModel | None:
        """The model of a prediction that may be made: known, allowed, of a known and allowed length; else None."""
        asked = _prediction(environ["PATH_INFO"])
        length = environ.get("CONTENT_LENGTH", "")
        if (
            not asked
            or environ["REQUEST_METHOD"] != "POST"
            or not (length.isdecimal() and int(length) <= self.body_limit)
        ):
            return None
        if not self.is_allowed(environ.get("HTTP_AUTHORIZATION")):
            return None
        try:
            return self.library.find(*asked)
        except EdgeError:
            return None


def create_app(library: ModelLibrary, *, token: bytes | None, body_limit: int) -> Flask:
    """``token``: what every request but ``/healthz`` must bring; ``body_limit``: bytes of a request."""
    app = EdgeFlask(library, token=token, body_limit=body_limit)

    @app.before_request
    def authenticate() -> Response | None:
        if app.is_allowed(request.headers.get("Authorization")):
            return None
        if request.endpoint == "healthz":
            return _json({"status": "ok"})
        response = _json({"error": "this service wants a token: send it as `Authorization: Bearer <token>`"}, 401)
        response.headers["WWW-Authenticate"] = 'Bearer realm="export-once-edge"'
        return response

    @app.get("/healthz")
    def healthz() -> Response:
        models = library.describe()
        versions = [version for model in models for version in model["versions"]]
        return _json(
            {
                "status": "ok",
                "models": len(models),
                "broken_versions": sum(version["error"] is not None for version in versions),
                "refused_files": sum(version.get("refused") is not None for version in versions),
                "pid": os.getpid(),
                "runtime": library.runtime,
                "threads": library.threads,
            }
        )

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(app.metrics.page(), content_type=CONTENT_TYPE)

    @app.post("/v1/reload")
    def reload() -> Response:
        return _json({"changes": library.reload(patient=False)})

    @app.get("/v1/models")
    def models() -> Response:
        return _json({"models": library.describe()})

    @app.get("/v1/models/<name>")
    def status(name: str) -> Response:
        states = [
            {
                "version": str(version),
                "state": "END" if error else "AVAILABLE",
                "status": {"error_code": "UNAVAILABLE" if error else "OK", "error_message": str(error or "")},
            }
            for version, error in library.states(name).items()
        ]
        return _json({"model_version_status": states})

    @app.post("/v1/models/<name>:predict")
    @app.post("/v1/models/<name>/versions/<int:version>:predict")
    def predict(name: str, version: int | None = None) -> Response:
        model = library.find(name, version)
        asked: EdgeRequest = request._get_current_object()  # type: ignore[attr-defined]
        asked.model = model
        body = asked.get_data(cache=False)
        if asked.content_length is None and len(body) >= body_limit:  # chunked: Werkzeug cuts it off there, silently
            raise RequestEntityTooLarge
        return Response(app.answer(model, body), mimetype="application/json")

    @app.errorhandler(EdgeError)
    def refused(error: EdgeError) -> Response:
        return Response(_error(error), status=error.status, mimetype="application/json")

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> Response:
        return _json({"error": f"the request is larger than {body_limit} bytes; send fewer rows at a time"}, 413)

    @app.errorhandler(HTTPException)
    def malformed(error: HTTPException) -> Response:
        return _json({"error": f"Malformed request: {request.method} {request.path} ({error.name})"}, error.code or 500)

    @app.errorhandler(Exception)
    def unforeseen(error: Exception) -> Response:
        return Response(_unforeseen(error), status=500, mimetype="application/json")

    return app


@lru_cache(maxsize=256)
def _prediction(path: str) -> tuple[str, int | None] | None:
    """The model and the version that a path asks for a prediction; None for any other path."""
    asked = PREDICT.fullmatch(path)
    return (asked[1], int(asked[2]) if asked[2] else None) if asked else None


def _error(error: EdgeError) -> bytes:
    return json.dumps({"error": str(error)}).encode()


def _unforeseen(error: Exception) -> bytes:
    traceback.print_exception(error, file=sys.stderr)
    return json.dumps({"error": f"an error that is not the request's: {type(error).__name__}; see the log"}).encode()


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status=status, mimetype="application/json")
