"""InterpreterPool and LiteModel on it: never more interpreters than allowed, never one for two, none after an error."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

import edge.runtime
from edge.errors import EdgeError
from edge.runtime import LiteModel
from models.artifacts import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.pool import NamedInterpreter
    from export.bundle import Export


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Every interpreter that was really loaded during the test, in order."""
    loaded: list[object] = []
    load = edge.runtime.load_interpreter

    def count(*arguments, **options):
        loaded.append(load(*arguments, **options))
        return loaded[-1]

    monkeypatch.setattr(edge.runtime, "load_interpreter", count)
    return loaded


def rows_of(export: Export, count: int) -> dict[str, np.ndarray]:
    return {name: values[:count] for name, values in export.evidence.cases()[0].inputs.items()}


def one(rows: dict[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    return {name: values[i : i + 1] for name, values in rows.items()}


def test_calls_one_after_the_other_need_one_interpreter(exports: dict[tuple[str, int], Export], made: list[object]):
    model = LiteModel(exports["cnn", 2].lite("int8"), interpreters=3)
    for _ in range(5):
        model.predict(rows_of(exports["cnn", 2], 3))
    assert len(made) == 1


def test_calls_at_once_get_an_interpreter_each_and_the_next_one_waits(
    exports: dict[tuple[str, int], Export], made: list[object]
):
    model = LiteModel(exports["cnn", 2].lite("int8"), interpreters=3)
    rows = rows_of(exports["cnn", 2], 1)
    all_lent, may_end = threading.Barrier(4), threading.Event()

    def hold(interpreter: NamedInterpreter) -> int:
        all_lent.wait(60)
        assert may_end.wait(60)
        return id(interpreter)

    with ThreadPoolExecutor(4) as threads:
        lent = [threads.submit(model._pool.lend, hold) for _ in range(3)]
        all_lent.wait(60)
        waiting = threads.submit(model.predict, rows)
        assert not waiting.done()
        may_end.set()
        assert len({one.result(timeout=60) for one in lent}) == len(made) == 3
        waiting.result(timeout=60)
    assert len(made) == 3


@pytest.mark.parametrize("interpreters", [1, 3])
@pytest.mark.parametrize(("name", "variant"), [("lstm", "int8"), ("transformer", "int8"), ("cnn", "server")])
def test_many_threads_mix_nothing_up_and_make_no_more_interpreters_than_allowed(
    exports: dict[tuple[str, int], Export], made: list[object], name: str, variant: str, interpreters: int
):
    """State of the fused LSTM, shapes of a free batch, and answers all stay with the interpreter that a call has."""
    export = exports[name, 2]
    model = LiteModel(export.lite(variant), interpreters=interpreters)
    rows = rows_of(export, 40)
    (expected,) = model.predict(rows).values()
    start = threading.Barrier(8)

    def ask(thread: int) -> None:
        start.wait()
        for i in range(thread, 40 - 3, 2):
            count = 1 + (i + thread) % 3
            (answer,) = model.predict({n: v[i : i + count] for n, v in rows.items()}).values()
            np.testing.assert_allclose(answer, expected[i : i + count], rtol=0, atol=1e-6 if variant == "server" else 0)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    assert 1 <= len(made) <= interpreters


def test_interpreter_that_failed_is_replaced(exports: dict[tuple[str, int], Export], made: list[object]):
    model = LiteModel(exports["cnn", 2].lite("int8"))
    rows = rows_of(exports["cnn", 2], 2)
    expected = model.predict(rows)["probabilities"]
    with pytest.raises(EdgeError, match=r"could not run int8\.tflite of cnn version 2: .*Dimension mismatch"):
        model.invoke({"image": np.zeros((1, 8, 9, 1), np.int8)})
    assert len(made) == 1
    np.testing.assert_array_equal(model.predict(rows)["probabilities"], expected)
    assert len(made) == 2


def test_input_that_does_not_fit_costs_no_interpreter(exports: dict[tuple[str, int], Export], made: list[object]):
    model = LiteModel(exports["cnn", 2].lite("int8"))
    for _ in range(3):
        with pytest.raises(EdgeError, match="the model takes"):
            model.predict({"image": np.zeros((1, 8, 9, 1), np.float32)})
    model.predict(rows_of(exports["cnn", 2], 1))
    assert len(made) == 1


def test_prepare_and_invoke_are_the_halves_of_predict(exports: dict[tuple[str, int], Export]):
    for export in exports.values():
        model = LiteModel(export.lite("int8"))
        rows = one(rows_of(export, 3), 2)
        answers = model.invoke(model.prepare(rows))
        (tensor,) = model.outputs
        assert answers[tensor.name].dtype == tensor.dtype == np.int8
        np.testing.assert_array_equal(tensor.to_raw(answers[tensor.name], rows), model.predict(rows)[tensor.name])


@pytest.mark.parametrize("variant", ["float32", "int8", "server"])
def test_warm_up_leaves_no_trace(exports: dict[tuple[str, int], Export], variant: str):
    export = exports["lstm", 2]
    model, warm = LiteModel(export.lite(variant)), LiteModel(export.lite(variant))
    warm.warm_up()
    (expected,), (answer,) = model.predict(rows_of(export, 2)).values(), warm.predict(rows_of(export, 2)).values()
    np.testing.assert_array_equal(answer, expected)


def test_pool_speed_prints_what_a_pool_brings_and_costs(exports: dict[tuple[str, int], Export]):
    command = [sys.executable, "-m", "edge.pool_speed", exports["cnn", 2].lite("int8"), "--seconds", "0.2"]
    done = subprocess.run([str(c) for c in command], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert re.search(r"cnn int8, ai-edge-litert \S+, 2 callers at once", done.stdout)
    assert re.search(r"^ +1 +\d+$\n^ +2 +\d+$", done.stdout, re.MULTILINE)
    assert re.search(r"a further interpreter takes \d+ kB", done.stdout)
    refused = subprocess.run(
        [str(c) for c in [*command, "--interpreters", "0"]], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr == "error: a pool of 0 interpreters cannot answer anything; use 1 or more\n"
