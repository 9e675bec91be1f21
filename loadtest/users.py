"""Locust's users: each keeps one connection and asks bytes that were made beforehand.

Under ``loadtest.worker`` a schedule drives them (``ask``); on Locust's own page (``locustfile.py``) their task does.
Importing this module patches the process for gevent.
"""

from __future__ import annotations

import time
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any

from locust import User, constant_throughput, task  # isort: skip  # first: it patches the process for gevent

import grpc
import grpc.experimental.gevent
from gevent import socket
from geventhttpclient.response import HTTPParseError, HTTPResponse

from export.bundle import find_exports
from loadtest.plan import CHECKED
from loadtest.questions import Question, questions
from loadtest.services import SERVICES, find_service

if TYPE_CHECKING:
    from collections.abc import Iterator

grpc.experimental.gevent.init_gevent()

# An answer that takes longer counts as lost, seconds.
PATIENCE_S = 10.0
LOST = f"no answer within {PATIENCE_S:g} s"
# A connection that was idle for this long is looked at before it is used: the edge service ends one after 9 s.
IDLE_S = 1.0
MESSAGE_CHARACTERS = 200  # of an error; the rest of a long body says nothing more
# On Locust's page: requests per second of a user, as long as the answers allow it.
USER_RATE = 10
_asked: dict[tuple[str, str, str | None], list[Question]] = {}


def questions_for(target: str, model: str, label: str | None = None) -> list[Question]:
    """The questions to one model's newest version on a target, or to the one that has the label; made once."""
    if (target, model, label) not in _asked:
        service = find_service(target)
        _asked[target, model, label] = questions(
            find_exports(models=[model])[-1],
            service.protocol,
            prefix=service.prefix,
            precision=service.precision,
            label=label,
        )
    return _asked[target, model, label]


class AskingUser(User):
    """Asks one model on ``target``; ``host`` is host:port, the deployment's where it is None."""

    abstract = True
    target: str
    wait_time = constant_throughput(USER_RATE)
    at_once = 1  # requests that an open loop may have under way on this connection

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.address = (self.host or find_service(self.target).address).removeprefix("http://").rstrip("/")

    def ask(self, question: Question) -> tuple[str | None, bytes]:
        """Send, and wait for the answer: (error or None, body)."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def on_start(self) -> None:
        self._model = self.environment.parsed_options.model
        self._questions: Iterator[Question] = cycle(questions_for(self.target, self._model))
        self._random = Random(0)

    def on_stop(self) -> None:
        self.close()

    @task
    def predict(self) -> None:
        """One question, told to Locust's statistics."""
        question = next(self._questions)
        start = time.perf_counter()
        error, body = self.ask(question)
        seconds = time.perf_counter() - start
        if error is None and self._random.random() < CHECKED:
            error = question.wrong(body)
        self.environment.events.request.fire(
            request_type=self.target,
            name=self._model,
            response_time=seconds * 1e3,
            response_length=len(body),
            exception=RuntimeError(error) if error else None,
            context={},
        )


class HttpAskingUser(AskingUser):
    """HTTP/1.1 on one kept-alive connection, opened by the first request, and again by the next one after an error."""

    abstract = True

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._socket: Any = None
        self._used = 0.0

    def ask(self, question: Question) -> tuple[str | None, bytes]:
        try:
            if self._socket is not None and time.perf_counter() > self._used + IDLE_S and self._is_closed():
                self.close()
            if self._socket is None:
                host, _, number = self.address.rpartition(":")
                self._socket = socket.create_connection((host, int(number)), timeout=PATIENCE_S)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(question.request)
            answer = _Answer()
            while not answer.message_complete:
                if not (piece := self._socket.recv(1 << 16)):
                    raise ConnectionResetError("the connection was closed before the answer")
                answer.feed(piece)
        except TimeoutError:
            self.close()
            return LOST, b""
        except (OSError, HTTPParseError) as error:
            self.close()
            return f"{error.strerror if isinstance(error, OSError) and error.strerror else error}", b""
        self._used = time.perf_counter()
        if not answer.should_keep_alive():
            self.close()
        if answer.status_code == 200:
            return None, answer.body
        return f"HTTP {answer.status_code}: {answer.body[:MESSAGE_CHARACTERS].decode(errors='replace')}", answer.body

    def _is_closed(self) -> bool:
        """Whether the server has ended the connection while nothing was asked: its right, and no failed request."""
        self._socket.settimeout(0)
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._socket.settimeout(PATIENCE_S)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Answer(HTTPResponse):
    """An answer that is fed as it comes, its body as bytes."""

    body = b""

    def _on_body(self, buf: bytearray) -> None:
        self.body += bytes(buf)


class RestUser(HttpAskingUser):
    """The model server's REST."""

    target = "serving-rest"


class EdgeUser(HttpAskingUser):
    """The device's service."""

    target = "edge-http"


class WebUser(HttpAskingUser):
    """The page's server, which hands the question on to the model server."""

    target = "web-http"


class GrpcUser(AskingUser):
    """The model server's gRPC: one channel a user, messages serialized beforehand and not parsed unless checked."""

    target = "serving-grpc"
    at_once = 8  # HTTP/2 carries many; a channel costs 2 ms to open, just when requests pile up

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._channel: Any = None

    def ask(self, question: Question) -> tuple[str | None, bytes]:
        if self._channel is None:
            # Channels with equal options would share one connection.
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
            self._channel = grpc.insecure_channel(self.address, options)
            self._call = self._channel.unary_unary(question.path)
        try:
            return None, self._call(question.body, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return f"{error.code().name}: {str(error.details())[:MESSAGE_CHARACTERS]}", b""

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


USERS: dict[str, type[AskingUser]] = {user.target: user for user in (RestUser, GrpcUser, EdgeUser, WebUser)}
assert {target: user.__name__ for target, user in USERS.items()} == {s.name: s.user for s in SERVICES.values()}
