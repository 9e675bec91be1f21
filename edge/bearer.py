"""The bearer token that a request must bring (RFC 6750). From a file or the environment, where `ps` does not show it."""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING

from edge.errors import SettingError

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "EDGE_TOKEN"
SHORTEST = 16  # characters; fewer can be tried one after another
MAKE_TOKEN = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"


def read_token(file: Path | None) -> bytes | None:
    """The token of ``file``, else of the environment, else None. Raises SettingError for one that is no token."""
    if file is None:
        # Taken out, so that no request's environment and no process of ours has it.
        text, where = os.environ.pop(VARIABLE, ""), f"the environment's {VARIABLE}"
        if not text:
            return None
    else:
        try:
            text, where = file.read_text(), f"--token-file {file}"
        except (OSError, ValueError) as error:
            raise SettingError(
                f"--token-file {file} cannot be read ({error}); make one: {MAKE_TOKEN} > {file}"
            ) from None
    token = text.strip()
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingError(f"{where} holds no token of {SHORTEST} or more letters and digits; make one: {MAKE_TOKEN}")
    return token.encode()


def brings_token(header: str | None, token: bytes) -> bool:
    """Whether an Authorization header is ``Bearer <token>``; takes the same time wherever a wrong one differs."""
    scheme, _, given = (header or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token)
