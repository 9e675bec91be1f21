"""Delegates: XNNPACK as it comes, none, and real shared libraries, compiled here where there is a C compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.errors import ModelFileError, SettingError
from edge.interpreters import load_interpreter
from edge.runtime import LiteModel

if TYPE_CHECKING:
    from export.bundle import Export


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A delegate as a vendor ships it."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("there is no C compiler (cc) to make a delegate with")
    path = tmp_path_factory.mktemp("delegate") / "libnulldelegate.so"
    source = Path(__file__).with_name("null_delegates.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    return path


@pytest.fixture
def cnn(exports: dict[tuple[str, int], Export]) -> Path:
    return exports["cnn", 2].lite("int8")


@pytest.fixture
def images(exports: dict[tuple[str, int], Export]) -> dict[str, np.ndarray]:
    return {name: values[:8] for name, values in exports["cnn", 2].evidence.cases()[0].inputs.items()}


def operators(path: Path, delegate: str | None) -> set[str]:
    return {node["op_name"] for node in load_interpreter(path.read_bytes(), delegate=delegate)._get_ops_details()}


def test_xnnpack_runs_the_graph_unless_there_shall_be_no_delegate(cnn: Path):
    assert "DELEGATE" in operators(cnn, None)
    assert "DELEGATE" not in operators(cnn, "none")


def test_delegate_that_takes_nothing_leaves_all_to_the_others(cnn: Path, images: dict[str, np.ndarray], library: Path):
    model = LiteModel(cnn, delegate=str(library), interpreters=2)
    expected = LiteModel(cnn).predict(images)["probabilities"]
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(images)["probabilities"], expected)


def test_delegate_without_its_device_says_so(cnn: Path, library: Path):
    with pytest.raises(SettingError) as refused:
        LiteModel(cnn, delegate=f"{library};mode=no device")
    assert str(refused.value).startswith(f"the delegate {library} does not start (")
    assert "no device found on any bus" in str(refused.value)
    assert "check that its device is there" in str(refused.value)


def test_delegate_that_cannot_take_a_model_costs_that_model(cnn: Path, library: Path):
    with pytest.raises(ModelFileError, match=r"with the delegate .*libnulldelegate\.so;mode=fails cannot load .*int8"):
        LiteModel(cnn, delegate=f"{library};mode=fails")


def test_library_that_is_missing_or_no_delegate_names_what_can_be_given(cnn: Path):
    remedy = "for an Edge TPU libedgetpu.so.1, from the package libedgetpu1-std"
    with pytest.raises(SettingError, match=f"'libnowhere.so' cannot be loaded: libnowhere.so: .*{remedy}"):
        LiteModel(cnn, delegate="libnowhere.so")
    with pytest.raises(SettingError, match=r"'xnnpack' cannot be loaded: .*'none', or nothing for XNNPACK"):
        LiteModel(cnn, delegate="xnnpack")
    with pytest.raises(
        SettingError, match=f"is a library, but no delegate: it has no tflite_plugin_create_delegate.*{remedy}"
    ):
        LiteModel(cnn, delegate="libc.so.6")
