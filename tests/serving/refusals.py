"""A server that does not start, in the tests' own process: flags, configs and ports are checked before it becomes Envoy."""

from __future__ import annotations

from model_server.launch import main

from tests.commands import run_command


def refusal(*flags: str) -> str:
    """The one line that it says. Real processes that refuse are in test_process.py and test_tls.py."""
    done = run_command(main, *flags)
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.strip().splitlines()
    return line
