"""A command of ours, called in the tests' own process: a process of its own costs a second, with TensorFlow ten."""

from __future__ import annotations

import contextlib
import io
import subprocess
from typing import TYPE_CHECKING
from unittest import mock

from models.errors import run_cli

if TYPE_CHECKING:
    from collections.abc import Callable


def run_command(
    main: Callable[[list[str]], int | None], *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``main(arguments)`` as the command line runs it, with these variables added to the environment.

    What it says is caught, and what it ends with is the return code, as of a process. An error that is no user's
    mistake is raised.
    """
    out, err = io.StringIO(), io.StringIO()
    words = [str(argument) for argument in arguments]
    with (
        mock.patch.dict("os.environ", environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run_cli(lambda: main(words))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
