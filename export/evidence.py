"""Evidence: recorded inputs with the reference's outputs, one ``.npz`` per model and version. NumPy only.

Keys are ``<signature>/<kind>/in|out/<tensor>``, kind = test (real, held out) | boundary | random, and
``<signature>/test/label`` for the labels of the test rows. A string tensor is stored as ``<tensor>.bytes`` (uint8) and
``<tensor>.offsets`` (int64, n + 1), with ``<tensor>.shape`` where it has more than one axis, and read back as an object
array of bytes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from models.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]

KINDS = ("test", "boundary", "random")


@dataclass(frozen=True)
class Case:
    """Rows of one kind. Every tensor has the batch axis first; ``labels`` is None unless kind is "test"."""

    kind: str
    inputs: Tensors
    outputs: Tensors
    labels: NDArray | None = None

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class Evidence:
    arrays: Tensors

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """Read an ``.npz``. Raises ArtifactError when it is missing or damaged."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return cls(dict(file))
        except FileNotFoundError:
            raise ArtifactError(f"{path} is missing; run `make deploy-all` to record it") from None
        except (OSError, ValueError, EOFError, BadZipFile, KeyError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); delete it and run `make deploy-all`") from error

    def signatures(self) -> list[str]:
        return sorted({key.split("/", 1)[0] for key in self.arrays})

    def case(self, signature: str, kind: str) -> Case | None:
        """The rows of one kind for one signature, or None where there are none."""
        inputs, outputs = self._tensors(f"{signature}/{kind}/in/"), self._tensors(f"{signature}/{kind}/out/")
        if not inputs:
            return None
        return Case(kind, inputs, outputs, self.arrays.get(f"{signature}/{kind}/label"))

    def cases(self, signature: str = "serving_default") -> list[Case]:
        return [case for kind in KINDS if (case := self.case(signature, kind))]

    def _tensors(self, prefix: str) -> Tensors:
        tensors: Tensors = {}
        for key, array in self.arrays.items():
            if not key.startswith(prefix):
                continue
            name = key.removeprefix(prefix)
            if name.endswith((".offsets", ".shape")):
                continue
            if name.endswith(".bytes"):
                name = name.removesuffix(".bytes")
                array = decode_strings(array, self.arrays[f"{prefix}{name}.offsets"])
                array = array.reshape(self.arrays.get(f"{prefix}{name}.shape", array.shape))
            tensors[name] = array
        return tensors


def store(arrays: Tensors, key: str, values: NDArray) -> None:
    """Put one tensor into the arrays of an evidence file, strings as described above."""
    if values.dtype != object:
        arrays[key] = values
        return
    arrays[f"{key}.bytes"], arrays[f"{key}.offsets"] = encode_strings(values.ravel())
    if values.ndim > 1:
        arrays[f"{key}.shape"] = np.array(values.shape, np.int64)


def encode_strings(values: NDArray) -> tuple[NDArray, NDArray]:
    """Object array of bytes [n] → (uint8 of all bytes, int64 offsets [n + 1])."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(v) for v in values], out=offsets[1:])
    return np.frombuffer(b"".join(values), np.uint8), offsets


def decode_strings(data: NDArray, offsets: NDArray) -> NDArray:
    raw = data.tobytes()
    values = np.empty(len(offsets) - 1, object)
    values[:] = [raw[a:b] for a, b in itertools.pairwise(offsets)]
    return values
