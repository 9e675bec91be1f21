"""Config files in protobuf's text format, as flags name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from model_server.errors import StartError


def read_config(flag: str, file: str, message: Any, *, example: str) -> Any:
    """``message`` filled from ``file``; ``example`` is what the file could say. Raises StartError."""
    try:
        return text_format.Parse(Path(file).read_text("utf-8"), message)
    except OSError as error:
        raise StartError(f"--{flag}={file} cannot be read: {error.strerror}; check the path") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        name = message.DESCRIPTOR.name
        raise StartError(f"--{flag}={file} is no {name} in text format: {error}; write for example {example}") from None
