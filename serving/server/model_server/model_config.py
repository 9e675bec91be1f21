"""Which models are served: the model_config_list of a config file or a reload call, or --model_name and --model_base_path.

A list is read whole before anything changes. What is wrong with it is said in TF Serving's words (``ConfigError``).
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf import text_format

from model_server.errors import Code, ConfigError, StartError
from model_server.log_config import LogConfig, read_log_config
from model_server.protos import ModelServerConfig

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from model_server.flags import Options

PLATFORM = "tensorflow"  # the one that there is


@dataclass(frozen=True)
class ModelConfig:
    """One model. ``specific`` versions win over ``every`` version, which wins over the ``latest`` so many."""

    name: str
    base_path: Path
    latest: int = 1
    every: bool = False
    specific: frozenset[int] = frozenset()
    labels: dict[str, int] = field(default_factory=dict, hash=False)
    log: LogConfig | None = None

    def aspired(self, found: Iterable[int]) -> list[int]:
        """The versions of ``found`` that should be served, lowest first."""
        versions = sorted(found)
        if self.specific:
            return [version for version in versions if version in self.specific]
        return versions if self.every else versions[-self.latest :]


class VersionFolder(NamedTuple):
    path: Path
    identity: tuple[int, int]  # device and inode: another folder under the same name is another version


class Roots:
    """--model_roots: the only folders that models may be loaded from; none means anywhere.

    ``logs`` is --request_log_root, the only folder that requests may be logged to; none means nowhere.
    """

    def __init__(self, flag: str, logs: str = "") -> None:
        """Raises StartError: a root is no absolute path of an existing folder."""
        if logs and not (Path(logs).is_absolute() and Path(logs).is_dir()):
            raise StartError(
                f"--request_log_root={logs} is no absolute path of a folder that exists; make it, or write its whole path"
            )
        self.logs = logs
        self._roots = [Path(root) for root in flag.split(",")] if flag else []
        for root in self._roots:
            if not root.is_absolute() or not root.is_dir():
                raise StartError(
                    f"--model_roots={flag} names {str(root)!r}, which is no absolute path of a folder that exists; "
                    "write absolute folders with commas between them"
                )
        self._resolved = [root.resolve() for root in self._roots]

    def allow(self, path: Path) -> bool:
        """Whether a path lies below a root when every symbolic link and ``..`` in it has been followed."""
        if not self._resolved:
            return True
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError):  # links in a circle, a NUL
            return False
        return any(real.is_relative_to(root) for root in self._resolved)

    def leaving(self, folder: Path) -> Path | None:
        """The first of a folder and all that is in it that is not below a root."""
        if not self._resolved:
            return None
        return next((path for path in (folder, *folder.rglob("*")) if not self.allow(path)), None)

    def __str__(self) -> str:
        return ", ".join(map(str, self._roots))


def read_models(options: Options) -> list[ModelConfig]:
    """The models at the start. Raises StartError, which names the file or the flag."""
    roots = Roots(options.model_roots, options.request_log_root)
    if options.model_config_file:
        source = options.model_config_file
    elif options.model_base_path:
        source = "--model_base_path"
    else:
        raise StartError(
            "--model_base_path and --model_config_file are empty; "
            "give --model_base_path=/folder/of/the/model or --model_config_file=FILE"
        )
    try:
        if options.model_config_file:
            return models_of(read_config(Path(source)), roots)
        return [_model(options.model_name, options.model_base_path, roots)]
    except ConfigError as error:
        raise StartError(f"{source}: {error.message}; {error.remedy}") from None


def read_config(file: Path) -> Any:
    """A ModelServerConfig in text format; a file without a word is refused. Raises ConfigError."""
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"the config file cannot be read: {error.strerror}", remedy="check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the config file is not UTF-8: {error}", remedy="write it as text") from None
    if not text:
        raise ConfigError("the config file is empty", remedy="write model_config_list {} to serve nothing yet")
    config = ModelServerConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise ConfigError(f"this is no ModelServerConfig in text format: {error}", remedy="correct that line") from None
    return config


def models_of(config: Any, roots: Roots, served: Container[str] = ()) -> list[ModelConfig]:
    """The models of a ModelServerConfig. ``served`` names the models of the config before it. Raises ConfigError."""
    kind = config.WhichOneof("config")
    if kind == "custom_model_config":
        raise ConfigError(
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another.",
            remedy="write model_config_list { config { name: … } }",
            code=Code.FAILED_PRECONDITION,
        )
    protos = config.model_config_list.config
    names = [proto.name for proto in protos]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"Illegal to list model {name} multiple times in config list",
                remedy="give each model a name of its own",
            )
    for proto in protos:
        _check_platform(proto, served)
    return [_from_proto(proto, roots) for proto in protos]


def _check_platform(proto: Any, served: Container[str]) -> None:
    # model_type is the older spelling; its 1 is TENSORFLOW.
    platform = proto.model_platform or (PLATFORM if proto.model_type == 1 else "")
    remedy = f'write model_platform: "{PLATFORM}"'
    if not platform:
        raise ConfigError(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {proto.name}",
            remedy=remedy,
        )
    if platform == PLATFORM:
        return
    if proto.name in served:
        raise ConfigError(
            f"Illegal to change a model's platform. For model {proto.name} platform was {PLATFORM} "
            f"and new platform requested is {platform}",
            remedy=remedy,
        )
    raise ConfigError(f"Model {proto.name} has the unsupported platform {platform}", remedy=remedy)


def _from_proto(proto: Any, roots: Roots) -> ModelConfig:
    policy = proto.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific" and not policy.specific.versions:
        raise ConfigError(
            f"Model {proto.name} asks for specific versions, but names none", remedy="add versions: 1 to specific"
        )
    return _model(
        proto.name,
        proto.base_path,
        roots,
        latest=(policy.latest.num_versions or 1) if kind == "latest" else 1,
        every=kind == "all",
        specific=frozenset(policy.specific.versions) if kind == "specific" else frozenset(),
        labels=dict(proto.version_labels),
        log=read_log_config(proto, roots.logs),
    )


def _model(name: str, base_path: str, roots: Roots, **policy: Any) -> ModelConfig:
    if not name:
        raise ConfigError("a model has no name", remedy='add name: "…"')
    path = Path(base_path)
    if not path.is_absolute():
        raise ConfigError(
            f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}",
            remedy="write the whole path",
        )
    if not roots.allow(path):
        raise ConfigError(
            f"base_path {base_path} of model {name} is outside of --model_roots ({roots})",
            remedy="move the model there, or start the server with that folder among its roots",
        )
    return ModelConfig(name, path, **policy)


def find_versions(base_path: Path) -> dict[int, VersionFolder] | None:
    """The numeric folders below a base path; ``00000123`` is version 123. None where the base path cannot be listed."""
    found = {}
    try:
        for entry in sorted(base_path.iterdir()):
            if entry.name.isascii() and entry.name.isdigit() and len(entry.name) < 100 and int(entry.name) < 1 << 63:
                try:
                    status = entry.stat()
                except OSError:
                    continue  # it went while we looked
                if stat.S_ISDIR(status.st_mode):
                    found[int(entry.name)] = VersionFolder(entry, (status.st_dev, status.st_ino))
    except (OSError, ValueError):  # a NUL in the path
        return None
    return found
