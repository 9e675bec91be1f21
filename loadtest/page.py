"""``python -m loadtest.page``: Locust's own page with this room's users (``make loadtest-web``)."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import TYPE_CHECKING

from deploy.ports import port
from export.bundle import find_exports
from loadtest.services import SERVICES, find_service
from loadtest.watched import Watched
from models.artifacts import REPOSITORY
from models.errors import DeployError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtest.page", description=__doc__)
    parser.add_argument("--target", help=f"one of {', '.join(SERVICES)}; default all, to be picked on the page")
    parser.add_argument("--model", default="mlp", help="which model is asked; default mlp")
    options = parser.parse_args(argv)
    export = find_exports(models=[options.model])[-1]
    targets = [find_service(options.target).name] if options.target else list(SERVICES)
    for target in targets:
        Watched(target, export)
    number = port("LOCUST_PORT")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            raise DeployError(
                f"Locust's page cannot listen on port {number} ({error.strerror}); choose another: LOCUST_PORT={number + 1} make loadtest-web"
            ) from None
    print(f"Locust's page: http://127.0.0.1:{number} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--model", options.model]
    command += ["--web-host", "127.0.0.1", "--web-port", str(number), "--class-picker", "--loglevel", "WARNING"]
    os.chdir(REPOSITORY)
    os.execv(sys.executable, [*command, *(SERVICES[target].user for target in targets if options.target)])


if __name__ == "__main__":
    run_cli(main)
