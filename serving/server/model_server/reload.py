"""A new config while the server runs: HandleReloadConfigRequest, and the config file that is polled.

Neither holds a lock while it waits: a call that waits for a base path that is missing keeps no other call and no
polling from their work. (TF Serving keeps its config lock until the new models are available.)
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from model_server.errors import Code, ServingError, invalid
from model_server.model_config import models_of, read_config

if TYPE_CHECKING:
    from pathlib import Path

    from model_server.manager import Manager

# Seconds between two looks at whether the models that a call waits for are there.
WAIT_STEP = 0.01


async def reload_config(manager: Manager, config: Any, timeout: float | None) -> None:
    """Apply a ModelServerConfig and wait until its new models are available; ``timeout`` in seconds, None: for ever.

    Raises ServingError: what is wrong with the config (nothing has changed then), UNKNOWN where a new model cannot be
    loaded, DEADLINE_EXCEEDED (the config stays, and the models come when they can).
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
        )
    added = await asyncio.to_thread(_apply, manager, config)
    while not manager.loaded(added):
        if manager.stopping:
            raise ServingError(Code.UNAVAILABLE, "the server is shutting down")
        if deadline is not None and time.monotonic() > deadline:
            raise ServingError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
        await asyncio.sleep(WAIT_STEP)


def _apply(manager: Manager, config: Any) -> set[str]:
    return manager.apply(models_of(config, manager.roots, manager.names))


def poll_config_file(manager: Manager, file: Path, seconds: float) -> None:
    """Apply the file's config every so many seconds, in a thread. Like TF Serving's, it undoes reload calls."""

    def run() -> None:
        said = ""
        while True:
            time.sleep(seconds)
            try:
                config = read_config(file)
                if config.WhichOneof("config"):
                    _apply(manager, config)
                said = ""
            except Exception as error:  # what is served goes on, whatever the file holds
                problem = f"{file}: {error}; the config stays as it was"
                if problem != said:
                    print(problem, file=sys.stderr, flush=True)
                said = problem

    threading.Thread(target=run, name="config-file", daemon=True).start()
