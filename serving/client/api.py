"""The methods that every client has, for callers that wait (``Client``) and for those that await (``AsyncClient``).

A protocol turns each method into a question of its own kind, which knows how to read its answer; a client only
carries questions to the server. NumPy in and out; every method raises ClientError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]
    Rows = Mapping[str, NDArray]

DEFAULT_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Spec:
    """Who is asked: TF Serving's ModelSpec. Neither version nor label: the latest version."""

    model: str
    version: int | None = None
    label: str | None = None
    signature: str | None = None


class Which(TypedDict, total=False):
    """Which version answers, and the seconds it may take. Without any: the latest, within the client's own limit."""

    version: int | None
    label: str | None
    timeout: float | None


class Wording(Protocol):
    """What a protocol makes of each method: a question that the client of that protocol can ask."""

    def predict(self, spec: Spec, inputs: Mapping[str, NDArray], outputs: Sequence[str]) -> Any: ...
    def classify(self, spec: Spec, examples: Rows, context: Rows | None) -> Any: ...
    def regress(self, spec: Spec, examples: Rows, context: Rows | None) -> Any: ...
    def status(self, spec: Spec) -> Any: ...
    def metadata(self, spec: Spec) -> Any: ...


class Client:
    """``address`` is host:port, ``timeout`` in seconds. Thread-safe, a context manager."""

    _wording: Wording

    def __init__(self, address: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._address = address
        self._timeout = timeout

    def predict(
        self,
        model: str,
        inputs: Mapping[str, NDArray],
        *,
        signature: str | None = None,
        outputs: Sequence[str] = (),
        **which: Unpack[Which],
    ) -> Tensors:
        """One Predict: ``{input: array}`` → ``{output: array}``; only the named ``outputs``, or all."""
        return self._ask(self._wording.predict(_spec(model, signature, which), inputs, outputs), which)

    def classify(
        self,
        model: str,
        examples: Rows,
        *,
        signature: str | None = None,
        context: Rows | None = None,
        **which: Unpack[Which],
    ) -> Tensors:
        """``{feature: [N, …]}`` as N tf.Examples → ``{"classes": str [N, k], "scores": float32 [N, k]}``.

        ``context`` holds features that every example shares.
        """
        return self._ask(self._wording.classify(_spec(model, signature, which), examples, context), which)

    def regress(
        self,
        model: str,
        examples: Rows,
        *,
        signature: str | None = None,
        context: Rows | None = None,
        **which: Unpack[Which],
    ) -> NDArray:
        """``{feature: [N, …]}`` as N tf.Examples → float32 [N]."""
        return self._ask(self._wording.regress(_spec(model, signature, which), examples, context), which)

    def status(self, model: str, *, version: int | None = None, timeout: float | None = None) -> list[dict[str, Any]]:
        """``[{"version", "state", "error_code", "error_message"}]``, highest version first."""
        return self._ask(self._wording.status(Spec(model, version)), {"timeout": timeout})

    def metadata(self, model: str, **which: Unpack[Which]) -> dict[str, Any]:
        """``{"model_spec": …, "signatures": {name: SignatureDef as JSON}}``"""
        return self._ask(self._wording.metadata(_spec(model, None, which)), which)

    def close(self) -> None:
        raise NotImplementedError

    def _ask(self, question: Any, which: Which) -> Any:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncClient:
    """As ``Client``, with methods to be awaited, in one event loop. Cancelling a call cancels it at the server too."""

    _wording: Wording

    def __init__(self, address: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._address = address
        self._timeout = timeout

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, NDArray],
        *,
        signature: str | None = None,
        outputs: Sequence[str] = (),
        **which: Unpack[Which],
    ) -> Tensors:
        return await self._ask(self._wording.predict(_spec(model, signature, which), inputs, outputs), which)

    async def classify(
        self,
        model: str,
        examples: Rows,
        *,
        signature: str | None = None,
        context: Rows | None = None,
        **which: Unpack[Which],
    ) -> Tensors:
        return await self._ask(self._wording.classify(_spec(model, signature, which), examples, context), which)

    async def regress(
        self,
        model: str,
        examples: Rows,
        *,
        signature: str | None = None,
        context: Rows | None = None,
        **which: Unpack[Which],
    ) -> NDArray:
        return await self._ask(self._wording.regress(_spec(model, signature, which), examples, context), which)

    async def status(
        self, model: str, *, version: int | None = None, timeout: float | None = None
    ) -> list[dict[str, Any]]:
        return await self._ask(self._wording.status(Spec(model, version)), {"timeout": timeout})

    async def metadata(self, model: str, **which: Unpack[Which]) -> dict[str, Any]:
        return await self._ask(self._wording.metadata(_spec(model, None, which)), which)

    async def close(self) -> None:
        raise NotImplementedError

    async def _ask(self, question: Any, which: Which) -> Any:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def _spec(model: str, signature: str | None, which: Which) -> Spec:
    return Spec(model, which.get("version"), which.get("label"), signature)
