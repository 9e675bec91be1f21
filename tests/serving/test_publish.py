"""Publishing: by rename, idempotent, only what belongs together, and nothing removed that still has an export."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from export.bundle import Export
from models.artifacts import REPOSITORY, artifacts_root
from models.errors import ArtifactError
from serving.models_config import DOCKER_ROOT, published_models
from serving.publish import publish_all

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, exports) -> Path:
    """An artifacts folder of its own, with the mlp's two versions."""
    for export in (exports["mlp", 1], exports["mlp", 2]):
        for kind in ("savedmodels", "evidence", "lite"):
            source = artifacts_root() / kind / "mlp"
            shutil.copytree(source, tmp_path / kind / "mlp", dirs_exist_ok=True)
        assert export.saved_model.is_dir()
    return tmp_path


def test_publish_makes_versions_whole_and_a_second_run_does_nothing(root):
    done = publish_all(root)
    assert len(done["changed"]) == 2
    folder = Export(root, "mlp", 2).published
    for name in ("saved_model.pb", "variables", "assets.extra/tf_serving_warmup_requests", "model.tflite"):
        assert (folder / name).exists(), name
    described = json.loads((folder / "published.json").read_text())
    assert described["source_sha256"] == Export(root, "mlp", 2).sha256
    assert described["engine"] == "litert"
    assert described["proof"].keys() == {"serving_default", "static", "classify"}
    for name, proof in described["proof"].items():
        assert proof["verdict"] == "pass", name
        assert proof["would_pass_at"] <= proof["tolerance"], name
        assert proof["n"] == sum(case.rows for case in Export(root, "mlp", 2).evidence.cases())
    config = (root / "repository" / "models.config").stat()  # of which the time of the last reading may change
    again = publish_all(root)
    assert again["changed"] == []
    assert again["removed"] == []
    after = (root / "repository" / "models.config").stat()
    assert (after.st_ino, after.st_mtime_ns) == (config.st_ino, config.st_mtime_ns)


def test_publish_leaves_out_a_tflite_of_another_saved_model(root):
    description = Export(root, "mlp", 2).lite("server").with_suffix(".json")
    data = json.loads(description.read_text())
    description.write_text(json.dumps({**data, "source_sha256": "of something else"}))
    publish_all(root)
    assert not (Export(root, "mlp", 2).published / "model.tflite").exists()
    assert (Export(root, "mlp", 1).published / "model.tflite").exists()
    description.write_text(json.dumps(data))
    assert [version.export.version for version in publish_all(root)["changed"]] == [2]
    assert (Export(root, "mlp", 2).published / "model.tflite").exists()


@pytest.mark.slow
def test_model_that_is_not_the_same_on_litert_is_published_without_it(root):
    shutil.copy(
        Export(root, "mlp", 1).lite("server"), Export(root, "mlp", 2).lite("server")
    )  # an older model's weights
    changed = {version.export.version: version for version in publish_all(root)["changed"]}
    assert changed[1].engine == "litert"
    assert changed[2].engine == "tensorflow"
    told = str(changed[2])
    assert told.startswith("published mlp version 2 without model.tflite, runs on TensorFlow: LiteRT is not proven")
    assert "probability is off by" in told
    folder = Export(root, "mlp", 2).published
    assert not (folder / "model.tflite").exists()
    assert (folder / "saved_model.pb").exists()
    described = json.loads((folder / "published.json").read_text())
    assert described["engine"] == "tensorflow"
    assert described["proof"]["serving_default"]["verdict"] == "fail"
    assert described["proof"]["serving_default"]["would_pass_at"] > described["proof"]["serving_default"]["tolerance"]
    assert publish_all(root)["changed"] == []


@pytest.mark.slow
def test_file_that_litert_cannot_run_is_left_out_with_its_reason(root):
    Export(root, "mlp", 2).lite("server").write_bytes(b"not a model" * 100)
    version = next(v for v in publish_all(root)["changed"] if v.export.version == 2)
    assert version.engine == "tensorflow"
    assert "LiteRT cannot run it: " in str(version)
    assert not (version.export.published / "model.tflite").exists()


@pytest.mark.slow
def test_signature_that_is_not_the_same_on_litert_is_left_to_tensorflow(root):
    export = Export(root, "mlp", 2)
    description = json.loads(export.evidence_json.read_text())
    description["spec"]["decision"]["labels"].reverse()  # the SavedModel says them the other way round
    description["evidence"]["sha256"] = "of another evidence"
    export.evidence_json.write_text(json.dumps(description))
    version = next(v for v in publish_all(root)["changed"] if v.export.version == 2)
    assert version.engine == "litert"
    assert "classify runs on TensorFlow (classes is off by 1" in str(version)
    assert not (version.export.published / "litert.json").exists()
    assert (Export(root, "mlp", 1).published / "litert.json").exists()


def test_publish_removes_a_version_only_when_its_export_is_gone(root):
    publish_all(root)
    shutil.rmtree(root / "lite" / "mlp" / "1")  # what it was made from may go …
    assert publish_all(root)["removed"] == []
    for suffix in (".json", ".npz"):
        (root / "evidence" / "mlp" / f"1{suffix}").unlink()  # … the export may not
    assert publish_all(root)["removed"] == ["mlp version 1"]
    assert published_models(root) == {"mlp": [2]}
    assert 'key: "stable" value: 2' in (root / "repository" / "models.config").read_text()


def test_publish_sweeps_what_a_killed_run_has_left(root):
    publish_all(root)
    leftover = root / "repository" / "mlp" / ".tmp-999999999-2"
    leftover.mkdir()
    publish_all(root)
    assert not leftover.exists()


def test_publish_of_a_damaged_export_names_the_folder(root):
    (Export(root, "mlp", 2).saved_model / "saved_model.pb").unlink()
    with pytest.raises(ArtifactError, match=r"mlp/2 has no saved_model.pb; run `make deploy-all`"):
        publish_all(root)
    assert not Export(root, "mlp", 2).published.exists()


def test_config_for_the_container_has_the_paths_that_compose_mounts(root):
    publish_all(root)
    config = (root / "repository" / "models.docker.config").read_text()
    assert f'base_path: "{DOCKER_ROOT}/mlp"' in config
    assert 'version_labels { key: "stable" value: 1 }' in config
    service = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]["serving"]
    assert f"--model_config_file={DOCKER_ROOT}/models.docker.config" in service["command"]
    # Nothing is loaded when tensorflow_model_server reads its first labels; it refuses them without this.
    assert "--allow_version_labels_for_unavailable_models=true" in service["command"]
    assert any(
        volume.split(":")[1] == str(DOCKER_ROOT) or f":{DOCKER_ROOT}:" in volume for volume in service["volumes"]
    )
