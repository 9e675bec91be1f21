"""Which models are served: the model_config_list of a config file, or --model_name and --model_base_path."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format

from model_server.errors import StartError
from model_server.protos import ModelServerConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model_server.flags import Options


@dataclass(frozen=True)
class ModelConfig:
    """One model. ``specific`` versions win over ``every`` version, which wins over the ``latest`` so many."""

    name: str
    base_path: Path
    latest: int = 1
    every: bool = False
    specific: frozenset[int] = frozenset()
    labels: dict[str, int] = field(default_factory=dict, hash=False)

    def aspired(self, found: Iterable[int]) -> list[int]:
        """The versions of ``found`` that should be served, lowest first."""
        versions = sorted(found)
        if self.specific:
            return [version for version in versions if version in self.specific]
        return versions if self.every else versions[-self.latest :]


def read_models(options: Options) -> list[ModelConfig]:
    """Raises StartError: the file is missing or no model_config_list, a path is relative, a name is given twice."""
    if not options.model_config_file:
        if not options.model_base_path:
            raise StartError(
                "no model is named; give --model_base_path=/folder/of/the/model or --model_config_file=FILE"
            )
        return [_model(options.model_name, options.model_base_path, source="--model_base_path")]
    file = Path(options.model_config_file)
    config = ModelServerConfig()
    try:
        text_format.Parse(file.read_text("utf-8"), config)
    except OSError as error:
        raise StartError(f"--model_config_file={file} cannot be read: {error.strerror}; check the path") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise StartError(f"{file} is no ModelServerConfig in text format: {error}; correct that line") from None
    if config.WhichOneof("config") != "model_config_list":
        raise StartError(f"{file} has no model_config_list; write model_config_list {{ config {{ name: … }} }}")
    models = [_from_proto(model, str(file)) for model in config.model_config_list.config]
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise StartError(f"{file} names the model {name!r} more than once; give each model one name")
    return models


def _from_proto(proto: Any, source: str) -> ModelConfig:
    if proto.model_platform not in ("", "tensorflow"):
        raise StartError(
            f'{source}: model {proto.name!r} has model_platform {proto.model_platform!r}; the only one is "tensorflow"'
        )
    policy = proto.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific" and not policy.specific.versions:
        raise StartError(f"{source}: model {proto.name!r} asks for specific versions, but names none; add versions: 1")
    return _model(
        proto.name,
        proto.base_path,
        source=source,
        latest=(policy.latest.num_versions or 1) if kind == "latest" else 1,
        every=kind == "all",
        specific=frozenset(policy.specific.versions) if kind == "specific" else frozenset(),
        labels=dict(proto.version_labels),
    )


def _model(name: str, base_path: str, *, source: str, **policy: Any) -> ModelConfig:
    if not name:
        raise StartError(f'{source}: a model has no name; add name: "…"')
    if not Path(base_path).is_absolute():
        raise StartError(
            f"{source}: model {name!r} has base_path {base_path!r}, which is not absolute; write the whole path"
        )
    return ModelConfig(name, Path(base_path), **policy)


def find_versions(base_path: Path) -> dict[int, Path]:
    """The numeric folders below a base path; ``00000123`` is version 123. Empty where the folder is missing."""
    try:
        entries = list(base_path.iterdir())
    except OSError:
        return {}
    return {
        int(entry.name): entry
        for entry in sorted(entries)
        if entry.name.isascii() and entry.name.isdigit() and int(entry.name) < 1 << 63 and entry.is_dir()
    }
