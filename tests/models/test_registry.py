"""The registry: models are files, and asking for them needs no TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import pytest

from models import registry
from models.errors import ModelError

OURS = ["cnn", "lstm", "mlp", "transformer"]


def test_names_are_the_files_with_a_spec():
    assert set(OURS) <= set(registry.names())


def test_unknown_model_is_refused_with_the_known_names():
    with pytest.raises(ModelError, match=r"no model named 'resnet'; the models are: .*cnn.*transformer"):
        registry.load("resnet")


def test_selected_follows_the_environment(monkeypatch):
    monkeypatch.setenv("MODELS", "mlp, cnn")
    assert registry.selected() == ["mlp", "cnn"]
    monkeypatch.setenv("MODELS", "")
    assert registry.selected() == registry.names()


def test_unknown_model_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("MODELS", "mlp,mpl")
    with pytest.raises(ModelError, match="'mpl'"):
        registry.selected()


def test_sources_follow_imports_inside_the_room():
    names = {path.name for path in registry.sources("transformer")}
    assert {"transformer.py", "attention.py", "cldr.py", "dataset.py", "training_run.py", "deployed.py"} <= names
    assert not {"lstm.py", "digits.py"} & names


def test_new_file_with_a_spec_is_a_model(tmp_path, monkeypatch):
    (tmp_path / "fifth.py").write_text("SPEC: object = None\n")
    (tmp_path / "other.py").write_text("def build(): ...\n")
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    assert registry.names() == ["fifth"]


def test_damaged_model_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "fifth.py").write_text("SPEC = (\n")
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    with pytest.raises(ModelError, match=r"fifth\.py is no valid Python"):
        registry.names()


def test_longest_training_comes_first_and_an_unknown_one_last(tmp_path, monkeypatch):
    seconds = {
        "a": "SPEC = None\nTRAINING_SECONDS = 5\n",
        "b": "SPEC = None\n",
        "c": "SPEC = None\nTRAINING_SECONDS: int = 90\n",
    }
    for name, content in seconds.items():
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    assert registry.longest_first(["a", "b", "c"]) == ["c", "a", "b"]
    assert registry.longest_first(["b", "a"]) == ["a", "b"]
    assert registry.longest_first([]) == []


def test_longest_training_of_ours_comes_first():
    ordered = registry.longest_first(OURS)
    assert sorted(ordered) == OURS
    assert ordered[0] == "transformer"


@pytest.mark.parametrize("module", ["models.train", "export"])
def test_second_run_imports_no_tensorflow(exports, repository, module):
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['x']\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ed 0 of " in done.stdout  # trained 0 of 4 models, exported 0 of 8 versions
