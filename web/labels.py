"""Where the server's labels point. TF Serving's status ignores a label, so each is read from the metadata it leads to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from web.proxy import STATUS_TIMEOUT

if TYPE_CHECKING:
    from web.proxy import BackEnd

LABELS = ("stable", "canary")
BAD_GATEWAY = 502  # and above: the proxy's own words, or a server that cannot answer now


def read_labels(server: BackEnd, model: str) -> dict[str, Any]:
    """``{"labels": {label: {"version", "state"} | None}, "reason"}``.

    None is a label that the server does not have; ``reason`` says why nothing is known. It is always an answer, so that
    the page can ask before it sends what would fail.
    """
    code, states = _ask(server, f"/v1/models/{model}")
    if code != 200:
        return {"labels": {}, "reason": states.get("error", f"the server answered {code}")}
    by_version = {row.get("version"): row.get("state") for row in states.get("model_version_status", ())}
    found: dict[str, dict[str, Any] | None] = {}
    for label in LABELS:
        code, metadata = _ask(server, f"/v1/models/{model}/labels/{label}/metadata")
        if code >= BAD_GATEWAY:
            return {"labels": {}, "reason": metadata.get("error", f"the server answered {code}")}
        version = metadata.get("model_spec", {}).get("version")
        found[label] = {"version": int(version), "state": by_version.get(version, "UNKNOWN")} if version else None
    return {"labels": found, "reason": None}


def _ask(server: BackEnd, path: str) -> tuple[int, dict[str, Any]]:
    code, content = server.forward("GET", path, timeout=STATUS_TIMEOUT)
    answer = json.loads(content)
    return code, answer if isinstance(answer, dict) else {}
