"""The way from the page to the server and the device: only their predict and status paths, in bounds of time and size."""

from __future__ import annotations

import json
from time import perf_counter
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = httpx.Timeout(10, connect=2)  # seconds; a prediction takes milliseconds
STATUS_TIMEOUT = httpx.Timeout(2)
ANSWER_LIMIT = 16 << 20  # bytes


class BackEnd:
    """One service that speaks TF Serving's REST form. Connections are kept and shared by the worker's threads.

    ``observe`` is told the status and the seconds of everything that is forwarded.
    """

    def __init__(self, name: str, address: str, *, observe: Callable[[int, float], None]) -> None:
        self.name, self.address, self._observe = name, address.rstrip("/"), observe
        self._client = httpx.Client(base_url=self.address, timeout=TIMEOUT, trust_env=False)

    def forward(
        self, method: str, path: str, body: bytes | None = None, *, timeout: httpx.Timeout = TIMEOUT
    ) -> tuple[int, bytes]:
        """The service's status and JSON; 502 or 504 with a sentence where there is none."""
        started = perf_counter()
        status, content = self._forward(method, path, body, timeout)
        self._observe(status, perf_counter() - started)
        return status, content

    def _forward(self, method: str, path: str, body: bytes | None, timeout: httpx.Timeout) -> tuple[int, bytes]:
        try:
            request = self._client.build_request(
                method, path, content=body, headers={"Content-Type": "application/json"}, timeout=timeout
            )
            answer = self._client.send(request, stream=True)
            try:
                content = self._read(answer)
            finally:
                answer.close()
        except httpx.TimeoutException:
            return 504, refusal(
                f"the {self.name} at {self.address} did not answer within {timeout.read:.0f} s; try again"
            )
        except httpx.HTTPError:
            return 502, refusal(self._silent())
        if content is None:
            return 502, refusal(f"the {self.name}'s answer is larger than {ANSWER_LIMIT} bytes; ask for fewer rows")
        if not is_json(content):
            return 502, refusal(
                f"what answers at {self.address} is no model server; check the page's --rest and --edge"
            )
        return answer.status_code, content

    def status(self, path: str) -> dict[str, Any]:
        """Whether it answers at all, and which variant of the models it runs, where it says so."""
        try:
            answer = self._client.get(path, timeout=STATUS_TIMEOUT)
            content = answer.json()
        except httpx.TimeoutException:
            reason = f"the {self.name} at {self.address} is too slow to answer; see `make status`"
            return self._describe(False, reason)
        except (httpx.HTTPError, ValueError):
            return self._describe(False, self._silent())
        models = content.get("models") if isinstance(content, dict) else None
        first = models[0] if isinstance(models, list) and models and isinstance(models[0], dict) else {}
        return self._describe(answer.status_code < 500, None, first.get("variant"))

    def _describe(self, up: bool, reason: str | None, variant: str | None = None) -> dict[str, Any]:
        return {"up": up, "reason": reason, "variant": variant, "address": self.address.partition("://")[2]}

    def _silent(self) -> str:
        return f"the {self.name} does not answer at {self.address}; run `make status`"

    @staticmethod
    def _read(answer: httpx.Response) -> bytes | None:
        content = bytearray()
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > ANSWER_LIMIT:
                return None
        return bytes(content)


def refusal(sentence: str) -> bytes:
    return json.dumps({"error": sentence}).encode()


def is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True
