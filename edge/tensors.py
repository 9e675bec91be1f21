"""A tensor of a .tflite file as its json describes it, and the way between raw units and what the file holds.

raw → ``(x - ref) / scale`` → normalised → ``round(x / s) + z`` → quantized, and back. The affine comes from the model's
export, ``s`` and ``z`` from the converter; either may be absent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import ModelFileError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_LAST = re.compile(r"last\((\w+)\)")


@dataclass(frozen=True)
class Affine:
    """``ref``: a vector, or the name of the raw input whose last step it is (``"last(series)"`` in the json)."""

    ref: NDArray | str
    scale: NDArray

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Affine:
        scale = np.asarray(data["scale"], np.float32)
        if not isinstance(data["ref"], str):
            return cls(np.asarray(data["ref"], np.float32), scale)
        last = _LAST.fullmatch(data["ref"])
        if not last:
            raise ModelFileError(
                f"the json's affine has the reference {data['ref']!r}; it must be numbers or last(<input>)"
            )
        return cls(last[1], scale)

    def reference(self, raw: Mapping[str, NDArray], rank: int) -> NDArray:
        """``ref`` shaped to broadcast against a tensor of that rank: per row for ``last``, float32."""
        if not isinstance(self.ref, str):
            return self.ref
        last = raw[self.ref][:, -1].astype(np.float32, copy=False)  # [N, …]
        return last if last.ndim == rank else last.reshape(len(last), *[1] * (rank - last.ndim), *last.shape[1:])


@dataclass(frozen=True)
class Tensor:
    """``dtype`` is the file's; ``raw_dtype`` what a caller sends or gets. ``shape`` has None where the size is free."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]
    scale: float | None
    zero_point: int | None
    affine: Affine | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any], affine: Mapping[str, Any] | None) -> Tensor:
        return cls(
            name=data["name"],
            dtype=np.dtype(data["dtype"]),
            shape=tuple(data["shape"]),
            scale=data["scale"],
            zero_point=data["zero_point"],
            affine=Affine.from_json(affine) if affine else None,
        )

    @cached_property
    def raw_dtype(self) -> np.dtype:
        return np.dtype(np.float32) if self.scale is not None else self.dtype

    @cached_property
    def batch(self) -> int | None:
        """Rows per invocation: None where free."""
        return self.shape[0] if self.shape else 1

    def to_file(self, raw: Mapping[str, NDArray]) -> NDArray:
        """Raw units [N, …] → what the file takes. Raises RequestError for a number that int8 cannot hold."""
        value = raw[self.name]
        if self.affine:
            value = (value - self.affine.reference(raw, value.ndim)) / self.affine.scale
        if self.scale is None:
            return np.ascontiguousarray(value, self.dtype)
        # A sum is finite only if all are; where it is not, it may have grown too large itself.
        if not isfinite(np.add.reduce(value, axis=None)) and not np.isfinite(value).all():
            raise RequestError(
                f"input {self.name!r} holds NaN or infinity (or is too large for float32), which a quantized model "
                "cannot represent; send finite numbers or use a float model"
            )
        # In place, by arrays that are there already, and without np.clip, which takes as long as all the rest.
        scale, zero_point, low, high = self._steps
        steps = np.asarray(value / scale)
        np.rint(steps, out=steps)
        np.add(steps, zero_point, out=steps)
        np.maximum(steps, low, out=steps)
        np.minimum(steps, high, out=steps)
        return steps.astype(self.dtype)

    @cached_property
    def _steps(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Scale, zero point, least and greatest step, float32 []."""
        limits = np.iinfo(self.dtype)
        numbers = self.scale, self.zero_point or 0, limits.min, limits.max
        scale, zero_point, low, high = (np.asarray(number, np.float32) for number in numbers)
        return scale, zero_point, low, high

    def to_raw(self, value: NDArray, raw_inputs: Mapping[str, NDArray]) -> NDArray:
        """What the file gives → raw units, ``raw_dtype``."""
        if self.scale is not None:
            scale, zero_point, _, _ = self._steps
            value = (value.astype(np.float32) - zero_point) * scale
        if self.affine:
            value = value * self.affine.scale + self.affine.reference(raw_inputs, value.ndim)
        return value.astype(self.raw_dtype, copy=False)

    def check(self, value: NDArray) -> None:
        """Raises RequestError when a raw input does not fit. The batch axis takes any number of whole batches."""
        if value.dtype != self.raw_dtype:
            raise RequestError(f"input {self.name!r} has dtype {value.dtype}; the model takes {self.raw_dtype}")
        have, want = value.shape, self.shape
        fits = len(have) == len(want) and (
            have[1:] == want[1:] or all(w is None or h == w for h, w in zip(have[1:], want[1:], strict=True))
        )
        if fits and self.batch and have:
            fits = have[0] % self.batch == 0
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in self.describe()["shape"])
            more = f", or whole multiples of {self.batch} rows" if self.batch not in (None, 1) else ""
            raise RequestError(f"input {self.name!r} has shape {list(value.shape)}; the model takes [{wanted}]{more}")

    def describe(self) -> dict[str, Any]:
        """For a caller: name, dtype and shape in raw units. A batch of 1 is looped over, so it is free (null)."""
        free = self.batch in (None, 1) and len(self.shape) > 0
        shape = [None, *self.shape[1:]] if free else list(self.shape)
        return {"name": self.name, "dtype": self.raw_dtype.name, "shape": shape}
