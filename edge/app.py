"""The HTTP service: TF Serving's REST form, so that one client serves the device and the server.

``GET /healthz``, ``GET /v1/models``, ``GET /v1/models/<m>``, ``POST /v1/models/<m>[/versions/<v>]:predict``. Errors are
``{"error": "…"}``.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from edge.errors import EdgeError
from edge.interpreters import choose_runtime
from edge.json_tensors import format_answer, parse_request

if TYPE_CHECKING:
    from edge.library import ModelLibrary

BODY_LIMIT = 16 << 20  # bytes; a row of the largest model here has 1 kB


def create_app(library: ModelLibrary, *, body_limit: int = BODY_LIMIT) -> Flask:
    app = Flask("edge", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = body_limit

    @app.get("/healthz")
    def healthz() -> Response:
        models = library.describe()
        broken = sum(version["error"] is not None for model in models for version in model["versions"])
        return _json(
            {
                "status": "ok",
                "models": len(models),
                "broken_versions": broken,
                "pid": os.getpid(),
                "runtime": " ".join(choose_runtime()),
                "threads": library.threads,
            }
        )

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
        body = request.get_data(cache=False)
        if request.content_length is None and len(body) >= body_limit:  # chunked: Werkzeug cuts it off there, silently
            raise RequestEntityTooLarge
        inputs, rows = parse_request(body, model.inputs)
        return Response(format_answer(model.predict(inputs), rows=rows), mimetype="application/json")

    @app.errorhandler(EdgeError)
    def refused(error: EdgeError) -> Response:
        return _json({"error": str(error)}, error.status)

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> Response:
        return _json({"error": f"the request is larger than {body_limit} bytes; send fewer rows at a time"}, 413)

    @app.errorhandler(HTTPException)
    def malformed(error: HTTPException) -> Response:
        return _json({"error": f"Malformed request: {request.method} {request.path} ({error.name})"}, error.code or 500)

    return app


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content), status=status, mimetype="application/json")
