"""TF Serving's REST API with kept-alive connections, in column format: ``{"inputs": {name: …}}``.

JSON has no dtypes, so the signature's output dtypes come from the server's metadata, asked once per model and version.
httpx is imported when the first client is made.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.client.api import DEFAULT_TIMEOUT_S, AsyncClient, Client, Spec, Which
from serving.client.errors import ClientError, Refused, TimedOut, Unreachable
from serving.client.examples import json_examples
from serving.client.tensors import KINDS, numpy_dtype, string_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import httpx
    from numpy.typing import NDArray

    from serving.client.api import Rows, Tensors

    Dtypes = dict[str, str]  # by output, NumPy's name

_DTYPES = {kind.name: kind.dtype for kind in KINDS.values()}
# HTTP status → gRPC's name, the inverse of the server's mapping; 400 may also be FAILED_PRECONDITION.
_CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
          409: "ABORTED", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
          504: "DEADLINE_EXCEEDED"}  # fmt: skip


class Question(NamedTuple):
    """``read`` gets the answer's JSON, and the output dtypes where ``typed`` asks for them."""

    method: str
    path: str
    body: str | None
    read: Callable[[Any, Dtypes], Any]
    typed: Spec | None = None


class RestWording:
    """Questions as paths and JSON."""

    def predict(self, spec: Spec, inputs: Mapping[str, NDArray], outputs: Sequence[str]) -> Question:
        request = {
            **_signature(spec),
            "inputs": {name: _jsonable(np.asarray(array), name) for name, array in inputs.items()},
        }
        return Question(
            "POST",
            f"{_path(spec)}:predict",
            json.dumps(request),
            lambda answer, dtypes: _tensors(answer["outputs"], dtypes, outputs),
            typed=spec,
        )

    def classify(self, spec: Spec, examples: Rows, context: Rows | None) -> Question:
        body = json.dumps({**_signature(spec), **json_examples(examples, context)})
        return Question("POST", f"{_path(spec)}:classify", body, lambda answer, _: _classes(answer["results"]))

    def regress(self, spec: Spec, examples: Rows, context: Rows | None) -> Question:
        body = json.dumps({**_signature(spec), **json_examples(examples, context)})
        return Question(
            "POST", f"{_path(spec)}:regress", body, lambda answer, _: np.array(answer["results"], np.float32)
        )

    def status(self, spec: Spec) -> Question:
        return Question("GET", _path(spec), None, _states)

    def metadata(self, spec: Spec) -> Question:
        return Question("GET", f"{_path(spec)}/metadata", None, _metadata)


class _Dtypes:
    """Output dtypes that the server has told, by path and signature."""

    def __init__(self) -> None:
        self._known: dict[Spec, Dtypes] = {}

    def get(self, spec: Spec) -> Dtypes | None:
        return self._known.get(spec)

    def learn(self, spec: Spec, metadata: dict[str, Any]) -> Dtypes:
        """Keep what a metadata answer says. Raises Refused when the signature is not in it."""
        signature = spec.signature or "serving_default"
        found = metadata["signatures"].get(signature)
        if found is None:
            raise Refused("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def')
        self._known[spec] = {name: _DTYPES.get(info["dtype"], "object") for name, info in found["outputs"].items()}
        return self._known[spec]


class RestClient(Client):
    """``address`` is host:port. Thread-safe, a context manager."""

    _wording = RestWording()

    def __init__(self, address: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        import httpx

        super().__init__(address, timeout=timeout)
        self._httpx = httpx
        self._http = httpx.Client(base_url=f"http://{address}", **_HTTP)
        self._dtypes = _Dtypes()

    def headers(self, model: str, *, version: int | None = None) -> dict[str, str]:
        """The headers of a metadata answer: a server may name itself there."""
        return dict(self._send(self._wording.metadata(Spec(model, version)), self._timeout).headers)

    def close(self) -> None:
        self._http.close()

    def _ask(self, question: Question, which: Which) -> Any:
        limit = which.get("timeout") or self._timeout
        spec = question.typed
        dtypes = {} if spec is None else self._dtypes.get(spec) or self._learn(spec, which)
        answer = _content(self._send(question, limit), self._address)
        try:
            return question.read(answer, dtypes)
        except _Misfit:  # a label has moved on to a version with other outputs
            assert spec is not None
            return question.read(answer, self._learn(spec, which))

    def _learn(self, spec: Spec, which: Which) -> Dtypes:
        return self._dtypes.learn(spec, self._ask(self._wording.metadata(spec), which))

    def _send(self, question: Question, limit: float) -> httpx.Response:
        try:
            return self._http.request(question.method, question.path, content=question.body, timeout=limit)
        except self._httpx.TransportError as error:
            raise _error(error, self._httpx.TimeoutException, self._address, limit) from None


class AsyncRestClient(AsyncClient):
    """As ``RestClient``, to be awaited; its connections belong to the event loop of the first call."""

    _wording = RestWording()

    def __init__(self, address: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        import httpx

        super().__init__(address, timeout=timeout)
        self._httpx = httpx
        self._http = httpx.AsyncClient(base_url=f"http://{address}", **_HTTP)
        self._dtypes = _Dtypes()

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, question: Question, which: Which) -> Any:
        limit = which.get("timeout") or self._timeout
        spec = question.typed
        dtypes = {} if spec is None else self._dtypes.get(spec) or await self._learn(spec, which)
        answer = _content(await self._send(question, limit), self._address)
        try:
            return question.read(answer, dtypes)
        except _Misfit:
            assert spec is not None
            return question.read(answer, await self._learn(spec, which))

    async def _learn(self, spec: Spec, which: Which) -> Dtypes:
        return self._dtypes.learn(spec, await self._ask(self._wording.metadata(spec), which))

    async def _send(self, question: Question, limit: float) -> httpx.Response:
        import asyncio

        try:
            async with asyncio.timeout(limit):  # httpx's own limit is one for each read
                return await self._http.request(question.method, question.path, content=question.body, timeout=limit)
        except TimeoutError:
            raise TimedOut(self._address, limit) from None
        except self._httpx.TransportError as error:
            raise _error(error, self._httpx.TimeoutException, self._address, limit) from None


_RESERVED = frozenset("%/:?#\x7f")  # in a name; httpx quotes the rest
# No proxy from the environment; no TLS, so no certificates to load.
_HTTP: dict[str, Any] = {"trust_env": False, "verify": False}


class _Misfit(Exception):
    """An answer's outputs are not those that the metadata told."""


def _error(error: Exception, timed_out: type[Exception], address: str, limit: float) -> ClientError:
    if isinstance(error, timed_out):
        return TimedOut(address, limit)
    return Unreachable(address, str(error) or type(error).__name__)


def _path(spec: Spec) -> str:
    name = _quoted(spec.model)
    if spec.version is not None:
        return f"/v1/models/{name}/versions/{spec.version}"
    return f"/v1/models/{name}/labels/{_quoted(spec.label)}" if spec.label else f"/v1/models/{name}"


def _quoted(name: str) -> str:
    return "".join(f"%{ord(sign):02X}" if sign in _RESERVED or sign < " " else sign for sign in name)


def _signature(spec: Spec) -> dict[str, Any]:
    return {"signature_name": spec.signature} if spec.signature else {}


def _jsonable(array: NDArray, name: str) -> Any:
    """Raises ClientError when the dtype has no form in JSON; ``name`` is the input's."""
    if array.dtype.kind in "OSU":
        return _mapped(array.tolist(), name)
    if array.dtype.kind in "cmM":
        raise ClientError(
            "INVALID_ARGUMENT", f"input {name} is {array.dtype}, which has no form in JSON; cast it first"
        )
    return array.tolist()


def _mapped(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_mapped(item, name) for item in value]
    return {"b64": base64.b64encode(string_bytes(value, name)).decode()}


# --- answers ---------------------------------------------------------------------------------------------------------


def _content(response: httpx.Response, address: str) -> Any:
    """The JSON of an answer. Raises Refused with the server's words."""
    try:
        answer = json.loads(response.content.decode("utf-8", "surrogateescape"))
    except ValueError:
        raise Refused("UNKNOWN", f"{address} answered {response.status_code} without JSON") from None
    if response.status_code != 200:
        code = _CODES.get(response.status_code, "UNKNOWN")
        raise Refused(code, str(answer.get("error", "")) if isinstance(answer, dict) else "")
    return answer


def _tensors(outputs: Any, dtypes: Dtypes, wanted: Sequence[str]) -> Tensors:
    """``wanted``: the REST API has no filter, so what else came is dropped here."""
    if len(dtypes) == 1:  # a single output stands without its name
        outputs = {next(iter(dtypes)): outputs}
    for name in wanted:
        if name not in dtypes:
            raise Refused("INVALID_ARGUMENT", f"output tensor alias not found in signature: {name}")
    if not isinstance(outputs, dict) or outputs.keys() != dtypes.keys():
        raise _Misfit
    try:
        return {name: _array(outputs[name], dtypes[name]) for name in wanted or dtypes}
    except (TypeError, ValueError):
        raise _Misfit from None


def _array(value: Any, dtype: str) -> NDArray:
    if dtype == "object":
        strings = np.array(value, object)
        flat = [
            base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode("utf-8", "surrogateescape")
            for v in strings.ravel()
        ]
        answer = np.empty(len(flat), object)
        answer[:] = flat
        return answer.reshape(strings.shape)
    return np.array(value, numpy_dtype(dtype))


def _classes(results: list[list[tuple[str, float]]]) -> Tensors:
    return {
        "classes": np.array([[label for label, _ in row] for row in results], str),
        "scores": np.array([[score for _, score in row] for row in results], np.float32),
    }


def _states(answer: Any, _: Dtypes) -> list[dict[str, Any]]:
    return [
        {"version": int(row["version"]), "state": row["state"], **row["status"]}
        for row in answer["model_version_status"]
    ]


def _metadata(answer: Any, _: Dtypes) -> dict[str, Any]:
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    return {"model_spec": answer["model_spec"], "signatures": signatures}
