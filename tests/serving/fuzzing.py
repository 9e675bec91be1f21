"""Fuzzing: hypothesis draws in rounds, each with a seed of its own, which all come from one.

That one seed and the number of rounds are fixed in `make test`, so that it draws the same each time. Where time is what
is given (`make test-all`, `make fuzz`), a new seed is drawn and told. ``EXPORT_ONCE_FUZZ_SEED`` takes the place of either,
to draw again what was drawn before. ``FUZZ_SECONDS`` is for all targets of test_fuzz.py together.
``FUZZ_ENGINE=tensorflow`` takes the server with TensorFlow.
"""

from __future__ import annotations

import os
import random
import secrets
import string
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from model_server.protos import PredictRequest, TensorProto

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

TARGETS = 13
ENGINE = os.environ.get("FUZZ_ENGINE", "litert")
SECONDS = float(os.environ.get("FUZZ_SECONDS", "130")) / TARGETS
ROUNDS = 6
SEED_VARIABLE = "EXPORT_ONCE_FUZZ_SEED"
_GIVEN = os.environ.get(SEED_VARIABLE)
FIXED_SEED = int(_GIVEN or 2026)
DRAWN_SEED = int(_GIVEN or secrets.randbits(32))
_SETTINGS = settings(
    max_examples=50,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


@dataclass(frozen=True)
class Fuzzer:
    """Draws and checks, for a number of rounds or a time. A failure is shrunk and shown by hypothesis, with our seed."""

    seed: int
    rounds: int | None = None
    seconds: float = 0.0

    def __call__(self, strategy: SearchStrategy, check: Callable[[Any], None], *, cost: int = 1) -> None:
        """``cost`` is how many times dearer than the others' these draws are: so many times fewer are its rounds."""
        rounds = self.rounds and self.rounds // cost
        seeds, drawn, end = random.Random(self.seed), 0, time.monotonic() + self.seconds

        def counted(value: Any) -> None:
            nonlocal drawn
            drawn += 1
            check(value)

        for number in count(1):
            try:
                seed(seeds.getrandbits(32))(_SETTINGS(given(strategy)(counted)))()
            except BaseException as error:
                error.add_note(f"in round {number} of the draws with {SEED_VARIABLE}={self.seed}")
                raise
            if number == rounds or (rounds is None and time.monotonic() > end):
                break
        print(f"{drawn} drawn in {number} rounds with {SEED_VARIABLE}={self.seed}", flush=True)  # `make fuzz` shows it


@st.composite
def mutated(draw: Any, originals: tuple[bytes, ...]) -> bytes:
    """One of ``originals`` with a few bytes changed, cut, doubled or added."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 100])))
        piece = (
            data[start:end] * draw(st.sampled_from([0, 1, 2, 50]))
            if draw(st.booleans())
            else draw(st.binary(max_size=9))
        )
        data[start:end] = piece
    return bytes(data[:4000])


NAMES = st.sampled_from(["features", "image", "series", "tokens", "text", "inputs", "probability", "", "\0", "ü" * 40])
NUMBERS = st.one_of(
    st.integers(-(1 << 70), 1 << 70),
    st.sampled_from([0, 1, 300, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, 1 << 63, 1 << 64]),
    st.floats(allow_nan=True, allow_infinity=True),
)
TEXTS = st.text(alphabet=string.printable + "äß€\U0001f600\ud800", max_size=12) | st.sampled_from(
    ["\ud800", "a\udc80", "\0"]
)
B64 = st.fixed_dictionaries({"b64": TEXTS | st.just("AAAA")})
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | B64
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES | TEXTS, inner, max_size=4),
    max_leaves=40,
)
# Lists of equal shape, as tensors have, now and then with one element that does not fit.
TENSORS = st.builds(
    lambda value, shape, odd: _nested(value, shape, odd),
    SCALARS,
    st.lists(st.integers(0, 4), max_size=4),
    st.none() | VALUES,
)


def _nested(value: Any, shape: list[int], odd: Any) -> Any:
    if not shape:
        return value
    rows = [_nested(value, shape[1:], None) for _ in range(shape[0])]
    return [*rows[:-1], odd] if odd is not None and rows else rows


def bodies() -> SearchStrategy[dict[str, Any]]:
    """The body of a predict, classify or regress request, right or wrong."""
    value = TENSORS | VALUES | st.dictionaries(NAMES, TENSORS, max_size=3)
    parts = {"instances": value | st.lists(value, max_size=4), "inputs": value, "examples": value, "context": value,
             "signature_name": st.sampled_from(["", "serving_default", "static", "none", 3])}  # fmt: skip
    return st.fixed_dictionaries({}, optional=parts)  # type: ignore[arg-type]


def tensors() -> SearchStrategy[Any]:
    """TensorProtos, most of them wrong in some way."""
    sizes = st.sampled_from([0, 1, 2, 3, 8, 30, 40, 52, -1, 1 << 20, 1 << 29, 1 << 31, 1 << 62, (1 << 63) - 1])
    values = {
        "float_val": st.floats(width=32), "double_val": st.floats(), "int_val": st.integers(-(1 << 31), (1 << 31) - 1),
        "string_val": st.binary(max_size=8), "scomplex_val": st.floats(width=32), "dcomplex_val": st.floats(),
        "int64_val": st.integers(-(1 << 63), (1 << 63) - 1), "bool_val": st.booleans(),
        "half_val": st.integers(-(1 << 31), (1 << 31) - 1), "uint32_val": st.integers(0, (1 << 32) - 1),
        "uint64_val": st.integers(0, (1 << 64) - 1),
    }  # fmt: skip

    @st.composite
    def draw_tensor(draw: Any) -> Any:
        tensor = TensorProto(dtype=draw(st.integers(0, 30) | st.sampled_from([1, 3, 7, 101, -1])))
        for size in draw(st.lists(sizes, max_size=3) | st.lists(st.just(1), max_size=70)):
            tensor.tensor_shape.dim.add().size = size
        tensor.tensor_shape.unknown_rank = draw(st.integers(0, 20)) == 0
        if draw(st.booleans()):
            tensor.tensor_content = draw(st.binary(max_size=500))
        for field in draw(st.lists(st.sampled_from(sorted(values)), max_size=2)):
            getattr(tensor, field).extend(draw(st.lists(values[field], max_size=60)))
        return tensor

    return draw_tensor()


@st.composite
def predict_requests(draw: Any) -> Any:
    request = PredictRequest()
    request.model_spec.name = draw(st.sampled_from(["mlp", "cnn", "lstm", "transformer", "", "nothing"]))
    request.model_spec.signature_name = draw(
        st.sampled_from(["", "serving_default", "static", "from_text", "x" * 2000])
    )
    if draw(st.integers(0, 5)) == 0:
        request.model_spec.version.value = draw(st.sampled_from([0, 1, 2, -1, (1 << 63) - 1]))
    elif draw(st.integers(0, 5)) == 0:
        request.model_spec.version_label = draw(st.sampled_from(["stable", "", "x"]))
    for name in draw(st.lists(NAMES, max_size=2)):
        request.inputs[name].CopyFrom(draw(tensors()))
    request.output_filter.extend(draw(st.lists(NAMES, max_size=2)))
    return request


# The models' inputs: model, signature, name, DataType, shapes that fit.
INPUTS = (
    ("mlp", "", "features", 1, [2, 30]), ("cnn", "", "image", 1, [2, 8, 8, 1]), ("lstm", "", "series", 1, [2, 52, 1]),
    ("transformer", "", "tokens", 3, [2, 40]), ("transformer", "from_text", "text", 7, [2]),
)  # fmt: skip


@st.composite
def nearly_right_requests(draw: Any) -> Any:
    """The right names and dtypes, with shapes and values that fit or nearly do: these reach the engine."""
    model, signature, name, dtype, shape = draw(st.sampled_from(INPUTS))
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    tensor = request.inputs[name]
    tensor.dtype = dtype
    odd = st.lists(st.sampled_from([0, 1, 2, 3, 8, 30, 40, 52]), max_size=4)
    for size in draw(st.just(shape) | st.just([0, *shape[1:]]) | odd):
        tensor.tensor_shape.dim.add().size = size
    if dtype == 1:
        tensor.float_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    elif dtype == 3:
        tensor.int_val.extend(draw(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=3)))
    else:
        tensor.string_val.extend(draw(st.lists(st.binary(max_size=50), max_size=3)))
    return request


def nearly_right_bodies() -> SearchStrategy[dict[str, Any]]:
    """Bodies that reach the engine of one model or another."""
    values = st.integers(-5, 300) | st.floats(width=32)
    lists = st.sampled_from([30, 40]).flatmap(lambda size: st.lists(values, min_size=size, max_size=size))
    example = st.fixed_dictionaries({"features": st.lists(values, min_size=29, max_size=31)})
    return st.one_of(
        st.fixed_dictionaries({"instances": st.lists(lists, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"examples": st.lists(example, min_size=1, max_size=3)}),
        st.fixed_dictionaries(
            {"signature_name": st.just("from_text"), "instances": st.lists(TEXTS | B64, min_size=1, max_size=3)}
        ),
    )
