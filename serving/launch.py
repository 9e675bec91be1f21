"""``python -m serving.launch --model_config_file=… [model-server's flags]``: become the model server that can run the models.

The light one (``serving/server/.venv``) where every published version has a model.tflite; else the one with TensorFlow
(``serving/server/.venv-tensorflow``), so that a model that LiteRT cannot run does not keep the others from being served.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from models.artifacts import REPOSITORY
from models.errors import DeployError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVER = REPOSITORY / "serving" / "server"
ENVIRONMENTS = {"litert": SERVER / ".venv", "tensorflow": SERVER / ".venv-tensorflow"}


def choose_engine(config: Path) -> str:
    """ "litert" when every version of every model of a config file has a model.tflite, else "tensorflow"."""
    for base in re.findall(r'base_path:\s*"([^"]+)"', config.read_text()):
        for version in Path(base).iterdir() if Path(base).is_dir() else ():
            if version.name.isdigit() and not (version / "model.tflite").is_file():
                return "tensorflow"
    return "litert"


def command(engine: str) -> Path:
    """The model-server of an environment. Raises DeployError with the rule that makes it."""
    program = ENVIRONMENTS[engine] / "bin" / "model-server"
    if not program.is_file():
        rule = "make serving/server/.venv-tensorflow" if engine == "tensorflow" else "make setup"
        raise DeployError(f"{program} is missing; run `{rule}` to install the server for {engine} models")
    return program


def main(argv: Sequence[str] | None = None) -> None:
    flags = sys.argv[1:] if argv is None else argv
    configs = [flag.partition("=")[2] for flag in flags if flag.startswith("--model_config_file=")]
    if not configs or not Path(configs[0]).is_file():
        raise DeployError("--model_config_file=PATH of an existing file is missing; `make publish` writes one")
    program = command(choose_engine(Path(configs[0])))
    os.execv(program, [str(program), *flags])


if __name__ == "__main__":
    run_cli(main)
