"""TF Serving's REST API with kept-alive connections, in column format: ``{"inputs": {name: …}}``.

JSON has no dtypes, so the signature's output dtypes come from the server's metadata, asked once per model and version.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np

from serving.client.errors import Refused, TimedOut, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]

_DTYPES = {
    "DT_FLOAT": np.float32, "DT_DOUBLE": np.float64, "DT_INT8": np.int8, "DT_INT16": np.int16, "DT_INT32": np.int32,
    "DT_INT64": np.int64, "DT_UINT8": np.uint8, "DT_UINT32": np.uint32, "DT_UINT64": np.uint64, "DT_BOOL": np.bool_,
    "DT_STRING": object,
}  # fmt: skip
# HTTP status → gRPC's name, the inverse of the server's mapping; 400 may also be FAILED_PRECONDITION.
_CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
          409: "ABORTED", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
          504: "DEADLINE_EXCEEDED"}  # fmt: skip


class RestClient:
    """``address`` is host:port. Thread-safe, a context manager."""

    def __init__(self, address: str, *, timeout: float = 30.0) -> None:
        self._address = address
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=f"http://{address}", trust_env=False, verify=False
        )  # no TLS, so no certificates to load
        self._dtypes: dict[tuple[str, str], dict[str, Any]] = {}

    def predict(
        self,
        model: str,
        inputs: Mapping[str, NDArray],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        timeout: float | None = None,
    ) -> Tensors:
        """One Predict. Raises ClientError."""
        path = _path(model, version, label)
        dtypes = self._output_dtypes(path, signature or "serving_default", timeout)
        request: dict[str, Any] = {"inputs": {name: _jsonable(np.asarray(array)) for name, array in inputs.items()}}
        if signature:
            request["signature_name"] = signature
        outputs = self._ask("POST", f"{path}:predict", json.dumps(request), timeout)["outputs"]
        if len(dtypes) == 1:  # a single output stands without its name
            outputs = {next(iter(dtypes)): outputs}
        return {name: _array(outputs[name], dtype) for name, dtype in dtypes.items()}

    def status(self, model: str, *, version: int | None = None, timeout: float | None = None) -> list[dict[str, Any]]:
        """``[{"version", "state", "error_code", "error_message"}]``, highest version first."""
        answer = self._ask("GET", _path(model, version, None), None, timeout)
        return [
            {"version": int(row["version"]), "state": row["state"], **row["status"]}
            for row in answer["model_version_status"]
        ]

    def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """``{"model_spec": …, "signatures": {name: SignatureDef as JSON}}``"""
        answer = self._ask("GET", f"{_path(model, version, label)}/metadata", None, timeout)
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        return {"model_spec": answer["model_spec"], "signatures": signatures}

    def headers(self, model: str, *, version: int | None = None) -> dict[str, str]:
        """The headers of a metadata answer: a server may name itself there."""
        return dict(self._response("GET", f"{_path(model, version, None)}/metadata", None, None).headers)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _output_dtypes(self, path: str, signature: str, timeout: float | None) -> dict[str, Any]:
        key = (path, signature)
        if key not in self._dtypes:
            answer = self._ask("GET", f"{path}/metadata", None, timeout)
            found = answer["metadata"]["signature_def"]["signature_def"].get(signature)
            if found is None:
                raise Refused("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def')
            self._dtypes[key] = {name: _DTYPES.get(info["dtype"]) for name, info in found["outputs"].items()}
        return self._dtypes[key]

    def _ask(self, method: str, path: str, body: str | None, timeout: float | None) -> Any:
        response = self._response(method, path, body, timeout)
        try:
            answer = json.loads(response.content.decode("utf-8", "surrogateescape"))
        except ValueError:
            raise Refused("UNKNOWN", f"{self._address} answered {response.status_code} without JSON") from None
        if response.status_code != 200:
            code = _CODES.get(response.status_code, "UNKNOWN")
            raise Refused(code, str(answer.get("error", "")) if isinstance(answer, dict) else "")
        return answer

    def _response(self, method: str, path: str, body: str | None, timeout: float | None) -> httpx.Response:
        limit = timeout or self._timeout
        try:
            return self._http.request(method, path, content=body, timeout=limit)
        except httpx.TimeoutException:
            raise TimedOut(self._address, limit) from None
        except httpx.TransportError as error:
            raise Unreachable(self._address, str(error) or type(error).__name__) from None


def _path(model: str, version: int | None, label: str | None) -> str:
    name = model.replace("%", "%25").replace("/", "%2F").replace(":", "%3A").replace("?", "%3F")
    if version is not None:
        return f"/v1/models/{name}/versions/{version}"
    return f"/v1/models/{name}/labels/{label}" if label else f"/v1/models/{name}"


def _jsonable(array: NDArray) -> Any:
    if array.dtype.kind in "OSU":
        return _mapped(array.tolist())
    return array.tolist()


def _mapped(value: Any) -> Any:
    if isinstance(value, list):
        return [_mapped(item) for item in value]
    data = value.encode() if isinstance(value, str) else value
    return {"b64": base64.b64encode(data).decode()}


def _array(value: Any, dtype: Any) -> NDArray:
    if dtype is object:
        strings = np.array(value, object)
        flat = [
            base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode("utf-8", "surrogateescape")
            for v in strings.ravel()
        ]
        answer = np.empty(len(flat), object)
        answer[:] = flat
        return answer.reshape(strings.shape)
    return np.array(value, dtype)
