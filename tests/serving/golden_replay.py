"""Reads the recordings in ``golden/``, asks a server the same, and says where its answer differs."""

from __future__ import annotations

import http.client
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
from google.protobuf import text_format
from model_server import protos

if TYPE_CHECKING:
    from serving.local import LocalServer

FOLDER = Path(__file__).with_name("golden")
Step = dict[str, Any]

_PREDICTION, _MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
# The recordings' name of a method → its path, and its messages' names without Request and Response.
_METHODS = {
    "Predict": (_PREDICTION + "Predict", "Predict"),
    "Classify": (_PREDICTION + "Classify", "Classification"),
    "Regress": (_PREDICTION + "Regress", "Regression"),
    "MultiInference": (_PREDICTION + "MultiInference", "MultiInference"),
    "GetModelMetadata": (_PREDICTION + "GetModelMetadata", "GetModelMetadata"),
    "GetModelStatus": (_MODEL + "GetModelStatus", "GetModelStatus"),
    "Reload": (_MODEL + "HandleReloadConfigRequest", "ReloadConfig"),
}
# Where in a graph an operation failed: the names depend on how often its functions had been traced before.
_NODE = re.compile(r"(\s|\\+[nt])*\[\[\{\{(function_node|node) .*?\}\}\]\]", re.DOTALL)
CALL_SECONDS = 60.0
WAIT_SECONDS = 30.0  # for what happens in the background: a version is found, loaded, unloaded


@dataclass(frozen=True)
class Recording:
    """What was asked of the real server, in order, and what it answered. ``golden/README.md`` explains the fields."""

    name: str
    steps: list[Step]
    server: str = "shared"
    config: str = ""
    files: dict[str, str] = field(default_factory=dict)


def read_recordings() -> list[Recording]:
    found = []
    for file in sorted(FOLDER.glob("*.json")):
        for name, content in json.loads(file.read_text("utf-8")).items():
            found.append(Recording(f"{file.stem}.{name}", **content))
    return found


class Connection:
    """Asks one server. ``paths`` are the folders that stand in the recordings as <MODELS>, <TMP>."""

    def __init__(self, server: LocalServer, socket: Path | None = None) -> None:
        """``socket`` is the server's unix socket, for the recordings that use one."""
        options = [("grpc.enable_http_proxy", 0)]
        self._rest_port = server.rest_port
        self._channels = {"TCP": grpc.insecure_channel(server.grpc_address, options)}
        if socket:
            self._channels["unix socket"] = grpc.insecure_channel(f"unix:{socket}", options)
        self.paths: dict[str, str] = {}

    def ask(self, step: Step) -> Step:
        """The answer to a step, in the recordings' form."""
        return self._ask_rest(step) if "rest" in step else self._ask_grpc(step)

    def reload(self, config: str) -> None:
        """Serve this configuration, in the text format of ModelServerConfig."""
        answer = self._ask_grpc({"grpc": "Reload", "request": f"config {{ {config} }}"})
        assert answer["code"] == "OK", answer

    def states(self, model: str) -> list[str]:
        """The states of a model's versions."""
        answer = self._ask_grpc({"grpc": "GetModelStatus", "request": f'model_spec {{ name: "{model}" }}'})
        return re.findall(r"\bstate: (\w+)", answer.get("message", ""))

    def _ask_rest(self, step: Step) -> Step:
        method, path = step["rest"].split(" ", 1)
        connection = http.client.HTTPConnection("127.0.0.1", self._rest_port, timeout=CALL_SECONDS)
        try:
            connection.request(method, path, _body(step.get("request")), step.get("headers", {}))
            response = connection.getresponse()
            body = response.read().decode("utf-8", "backslashreplace")
        finally:
            connection.close()
        kind = response.headers.get("content-type", "")
        return {"status": response.status, "type": kind, "body": self._with_placeholders(body)}

    def _ask_grpc(self, step: Step) -> Step:
        path, message = _METHODS[step["grpc"]]
        request = _parse(f"{message}Request", self._with_paths(step["request"]))
        call = self._channels[step.get("over", "TCP")].unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=protos.message(f"tensorflow.serving.{message}Response").FromString,
        )
        try:
            answer = call(request, timeout=step.get("timeout", CALL_SECONDS))
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": self._with_placeholders(error.details() or "")}
        return {"code": "OK", "message": self._with_placeholders(_one_line(answer))}

    def _with_paths(self, text: str) -> str:
        for placeholder, path in self.paths.items():
            text = text.replace(placeholder, path)
        return text

    def _with_placeholders(self, text: str) -> str:
        for placeholder, path in self.paths.items():
            text = text.replace(path, placeholder)
        return text

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def replay(connection: Connection, step: Step, *, patience: float = WAIT_SECONDS) -> str:
    """Ask one step; where the answer differs from the recorded one, or an empty string. ``patience`` in seconds."""
    deadline = time.monotonic() + (patience if step.get("wait") else 0)
    while (found := difference(step, connection.ask(step))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def difference(recorded: Step, answer: Step) -> str:
    """Text for text, apart from what ``_comparable`` says and the names of nodes in a graph."""
    for key, got in answer.items():
        want = recorded.get(key)
        if want is None or _comparable(key, want, recorded) != _comparable(key, got, recorded):
            return f"{key}: recorded {want!r}, answered {got!r}"
    return ""


def _comparable(key: str, value: Any, step: Step) -> Any:
    """A content type without its charset, a message without an order in its maps, JSON to the byte but for the order of
    an object's keys, which changes from call to call.
    """
    if key == "type":
        return value.split(";")[0]
    if key == "message":
        value = _one_line(_parse(f"{_METHODS[step['grpc']][1]}Response", value))
    text = without_nodes(str(value))
    if key != "body":
        return text
    lines = sorted(line.rstrip(",") for line in text.split("\n"))
    try:
        return json.loads(text), lines
    except ValueError:
        return text


def without_nodes(text: str) -> str:
    """An error without the names of the nodes in which it came about."""
    return _NODE.sub("", text)


def _body(request: Any) -> bytes | None:
    """The recorded body; where it was too long to be kept, it is made again."""
    if not isinstance(request, dict):
        return None if request is None else request.encode("utf-8")
    body = json.dumps({"instances": [[0.5, 1.25] * 1250] * 400}).encode()
    assert len(body) == request["length"], "the recording's body is made otherwise"
    return body


def _parse(message: str, text: str) -> Any:
    return text_format.Parse(text, protos.message(f"tensorflow.serving.{message}")(), descriptor_pool=protos.POOL)


def _one_line(message: Any) -> str:
    return text_format.MessageToString(message, as_one_line=True, descriptor_pool=protos.POOL)
