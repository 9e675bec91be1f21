"""REST: TF Serving's paths, bodies and errors (tensorflow.org/tfx/serving/api_rest)."""

from __future__ import annotations

import json
import re
import sys
import traceback
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from google.protobuf import json_format

from model_server import examples, json_answers, json_tensors
from model_server.connection import tidy_after
from model_server.errors import Code, ServingError, invalid
from model_server.json_examples import results, serialized_examples
from model_server.json_parse import debug_string, may_hold_bools, parse_body
from model_server.messages import signature_map, status_message
from model_server.protos import POOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from model_server.core import Core
    from model_server.servable import Servable
    from model_server.signatures import Signature

_MODEL = r"(?i:/v1/models/)(?P<name>[^/:]+)(?:(?i:/versions/)(?P<version>\d+)|(?i:/labels/)(?P<label>[^/:]+))?"
_PREDICT = re.compile(_MODEL + r":(?P<verb>predict|classify|regress)")
_GET = re.compile(_MODEL + r"(?P<metadata>(?i:/metadata))?")
_JSON = [(b"content-type", b"application/json")]
_HTML = [(b"content-type", b"text/html; charset=ISO-8859-1")]
_NOT_FOUND = (
    b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"  # libevent's
)
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
]
# A gzip body larger than this when unpacked is refused, as TF Serving does.
MAX_UNPACKED = 100 << 20


class RestApplication:
    """``await app(scope, body)``: a request (see http1.py) → its answer."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._timeout = core.options.rest_api_timeout_in_ms / 1000
        self._more_headers = _CORS if core.options.rest_api_enable_cors_support else []

    async def __call__(self, scope: dict[str, Any], body: bytes) -> tuple[int, list, bytes]:
        """Status, headers and body of the answer. Raises nothing but CancelledError."""
        headers = _JSON
        try:
            for key, value in scope["headers"]:
                if key == b"content-encoding" and body and b"gzip" in value.lower():
                    body = _unpacked(body)
                    tidy_after(len(body))
            status, headers, answer = await self._answer(scope, body)
        except ServingError as error:
            status, answer = error.http_status, json_answers.error(error.message)
        except RecursionError:
            status, answer = 400, json_answers.error("JSON Parse error: the value is nested too deeply")
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            status, answer = 500, json_answers.error(f"{type(error).__name__}: {error}")
        return status, headers + self._more_headers, answer

    async def _answer(self, scope: dict[str, Any], body: bytes) -> tuple[int, list, bytes]:
        method = scope["method"]
        path = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        if path[:4].lower() != "/v1/":
            return 404, _HTML, _NOT_FOUND
        if method == "POST" and (match := _PREDICT.fullmatch(path)):
            if _beyond_int64(match["version"]):
                return 400, _JSON, b""
            answer = self._predict if match["verb"] == "predict" else self._classify_or_regress
            return 200, _JSON, await answer(match, body)
        if method == "GET":
            if re.fullmatch(r"(?i)/v1/models", path):
                raise invalid("Missing model name in request.")
            if match := _GET.fullmatch(path):
                if _beyond_int64(match["version"]):
                    return 400, _JSON, b""
                return self._metadata(match) if match["metadata"] else self._status(match)
        if method == "OPTIONS":
            # A preflight request, which TF Serving looks at no further.
            origin = dict(scope["headers"]).get(b"origin", b"")
            return (200 if re.search(rb"https?://", origin) else 400), _HTML, b""
        raise invalid(f"Malformed request: {method} {path}")

    async def _predict(self, match: re.Match, body: bytes) -> bytes:
        request = parse_body(body)
        servable = self._find(match)
        name = _signature_name(request)
        signature = servable.signature(name)
        if signature is None:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        if not signature.inputs:
            raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
        by_row, by_column = "instances" in request, "inputs" in request
        if by_row and by_column:
            raise invalid(
                f"JSON Value: {debug_string(request)} Not formatted correctly expecting only one of 'inputs' or "
                "'instances' keys to exist "
            )
        if by_row:
            inputs = json_tensors.rows(request, signature.inputs, bools=may_hold_bools(body))
        elif by_column:
            inputs = json_tensors.columns(request["inputs"], signature.inputs, bools=may_hold_bools(body))
        else:
            raise invalid("Missing 'inputs' or 'instances' key")
        servable.check_names(signature, inputs)
        outputs = await self._run(servable, signature, inputs, signature.outputs)
        return json_answers.predictions(outputs) if by_row else json_answers.columns(outputs)

    async def _classify_or_regress(self, match: re.Match, body: bytes) -> bytes:
        request = parse_body(body)
        name = _signature_name(request)
        inputs = examples.strings(*serialized_examples(request))
        servable = self._find(match)
        method = examples.CLASSIFY if match["verb"] == "classify" else examples.REGRESS
        task = examples.single(servable, name, method)
        outputs = await self._run(servable, task.signature, inputs, task.outputs)
        return results(examples.read(task, outputs, len(inputs[examples.INPUT])))

    async def _run(
        self, servable: Servable, signature: Signature, inputs: Mapping[str, NDArray], outputs: Sequence[str]
    ) -> dict[str, NDArray]:
        try:
            return await self._core.predict(servable, signature, inputs, outputs, self._timeout)
        except ServingError as error:
            if error.code is Code.DEADLINE_EXCEEDED:
                raise ServingError(error.code, "Timed out waiting for notification") from None
            raise

    def _status(self, match: re.Match) -> tuple[int, list, bytes]:
        version = int(match["version"]) if match["version"] else None
        name = _decoded(match["name"])
        message = status_message(self._core.manager.status(name, version))
        engines = "".join(f"; version {number}: {engine}" for number, engine in self._core.manager.engines(name))
        return 200, [*_JSON, (b"x-model-server", f"model-server{engines}".encode())], f"{_as_json(message)}\n".encode()

    def _metadata(self, match: re.Match) -> tuple[int, list, bytes]:
        servable = self._find(match)
        spec = {"name": servable.name, "signature_name": "", "version": str(servable.version)}
        # TF Serving puts it together from two messages, each with line breaks of its own.
        body = (
            f'{{\n"model_spec":{_indented(spec)}\n,\n"metadata": {{"signature_def": {_as_json(signature_map(servable))}'
            "\n}\n}\n"
        )
        return 200, [*_JSON, (b"x-model-server", servable.describe().encode())], body.encode()

    def _find(self, match: re.Match) -> Servable:
        label = _decoded(match["label"]) if match["label"] else None
        version = int(match["version"]) if match["version"] else None
        return self._core.manager.find(_decoded(match["name"]), version, label)


def _signature_name(request: dict[str, Any]) -> str:
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {debug_string(request)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def named(method: str, raw_path: bytes, query: bytes) -> tuple[str, str]:
    """The model that a path names and the verb after it; both empty where the request is malformed."""
    path = (raw_path + b"?" + query if query else raw_path).decode("latin-1")
    pattern = {"POST": _PREDICT, "GET": _GET}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    return (_decoded(match["name"]), match.groupdict().get("verb", "")) if match else ("", "")


def _unpacked(body: bytes) -> bytes:
    """A damaged gzip body counts as an empty document, as it does for TF Serving."""
    try:
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        data = unpacker.decompress(body, MAX_UNPACKED)
        return data if unpacker.eof else b""
    except zlib.error:
        return b""


def _beyond_int64(version: str | None) -> bool:
    return version is not None and (len(version) > 1000 or int(version) >= 1 << 63)


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace")


def _as_json(message: Any) -> str:
    return _indented(
        json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, descriptor_pool=POOL
        )
    )


def _indented(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)
