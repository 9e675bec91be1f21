"""``models.config``: which models and versions a server serves, and where its labels point.

The file is the only place where labels are kept. Publishing moves ``canary`` to the newest version and leaves every
other label where it is, so what was promoted stays so; ``rollout.py`` moves them on a running server too.

=========  ==========================================================================================
stable     what most traffic asks; moved by promote and rollback only
canary     the newest version
previous   where ``stable`` was before it was promoted; rollback takes it back there
=========  ==========================================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.artifacts import write_whole
from models.errors import ArtifactError
from serving.client.messages import parse_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Labels = dict[str, int]

# Where docker-compose.yml mounts the repository in the container.
DOCKER_ROOT = Path("/repository")
STABLE, CANARY, PREVIOUS = "stable", "canary", "previous"


def config_text(
    models: Mapping[str, Sequence[int]], base: Path, labels: Mapping[str, Mapping[str, int]] | None = None
) -> str:
    """A ModelServerConfig in text format that serves all versions of ``models``; ``labels`` by model."""
    lines = ["model_config_list {"]
    for name in models:
        lines += [
            "  config {",
            f'    name: "{name}"',
            f'    base_path: "{base / name}"',
            '    model_platform: "tensorflow"',
            "    model_version_policy { all {} }",
        ]
        for label, version in ((labels or {}).get(name) or {}).items():
            lines.append(f'    version_labels {{ key: "{label}" value: {version} }}')
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def published_models(root: Path) -> dict[str, list[int]]:
    """Every published model below ``root`` (``artifacts/``) with its versions, lowest first."""
    found: dict[str, list[int]] = {}
    for path in sorted((root / "repository").glob("*/*/published.json")):
        if path.parent.name.isdigit():
            found.setdefault(path.parent.parent.name, []).append(int(path.parent.name))
    return {model: sorted(versions) for model, versions in found.items()}


def read_labels(root: Path) -> dict[str, Labels]:
    """The labels of each model in ``models.config``; none where there is no such file. Raises ArtifactError."""
    path = config_path(root)
    try:
        config = parse_config(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}); delete it and run `make publish`, which puts the labels at their start"
        ) from None
    return {model.name: dict(model.version_labels) for model in config.model_config_list.config}


def current_labels(root: Path) -> dict[str, Labels]:
    """``read_labels`` brought up to what is published: every model has ``stable`` and ``canary``, none points nowhere."""
    kept = read_labels(root)
    return {model: _labels(versions, kept.get(model, {})) for model, versions in published_models(root).items()}


def _labels(versions: Sequence[int], kept: Mapping[str, int]) -> Labels:
    """Labels that are kept, as far as their versions are still there; ``stable`` starts at the version before the newest."""
    labels = {label: version for label, version in kept.items() if version in versions}
    if STABLE not in labels:
        labels[STABLE] = labels.pop(PREVIOUS, versions[-2] if len(versions) > 1 else versions[-1])
    labels[CANARY] = versions[-1]
    return dict(sorted(labels.items(), key=lambda item: (item[0] != STABLE, item[0])))


def config_path(root: Path) -> Path:
    return root / "repository" / "models.config"


def check_published(root: Path) -> None:
    """Raises ArtifactError when nothing is published."""
    if not published_models(root):
        raise ArtifactError(
            f"nothing is published below {root / 'repository'}; run `make deploy-all` to build the exports"
        )


def write_configs(root: Path, labels: Mapping[str, Labels] | None = None) -> Path:
    """``models.config`` for this machine and ``models.docker.config`` for the container; untouched when unchanged.

    ``labels`` are by default those that there are. Raises ArtifactError when nothing is published.
    """
    models = published_models(root)
    check_published(root)
    labels = current_labels(root) if labels is None else labels
    path = config_path(root)
    for file, base in ((path, path.parent), (path.with_name("models.docker.config"), DOCKER_ROOT)):
        text = config_text(models, base, labels)
        if not file.is_file() or file.read_text("utf-8") != text:
            with write_whole(file) as temporary:
                temporary.write_text(text, "utf-8")
    return path
