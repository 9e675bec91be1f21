"""A model's ``logging_config``: whether, where and how often its requests are logged (request_log.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from model_server.errors import ConfigError

COLLECTORS = ("", "tfrecord")


class LogConfig(NamedTuple):
    """What a model's logging_config says."""

    prefix: Path
    rate: float  # of the requests, 0 to 1


def read_log_config(model: Any, root: str) -> LogConfig | None:
    """The logging_config of a ModelConfig message; None where it has none. Raises ConfigError."""
    if not model.HasField("logging_config"):
        return None
    collector, rate = model.logging_config.log_collector_config, model.logging_config.sampling_config.sampling_rate
    if not root:
        raise ConfigError(
            f"model {model.name} has a logging_config, but no folder is set that requests may be logged to",
            remedy="start the server with --request_log_root=/that/folder, or remove logging_config",
        )
    if collector.type not in COLLECTORS:
        raise ConfigError(
            f"model {model.name} has a log collector of the unknown type {collector.type!r}",
            remedy='write type: "tfrecord"',
        )
    if not 0 <= rate <= 1:
        raise ConfigError(
            f"model {model.name} has the sampling_rate {rate:g}", remedy="write a number from 0 (no request) to 1 (all)"
        )
    prefix = Path(collector.filename_prefix)
    if not collector.filename_prefix or collector.filename_prefix.endswith("/") or not is_below(root, prefix):
        raise ConfigError(
            f"model {model.name} has the filename_prefix {collector.filename_prefix!r}, which names no file below "
            f"--request_log_root ({root})",
            remedy=f'write for example filename_prefix: "{Path(root) / model.name}"',
        )
    return LogConfig(prefix, rate)


def is_below(root: str, prefix: Path) -> bool:
    """Symlinks are followed: what counts is where a file would be."""
    return prefix.is_absolute() and prefix.parent.resolve().is_relative_to(Path(root).resolve())
