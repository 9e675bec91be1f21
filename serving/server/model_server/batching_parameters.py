"""--batching_parameters_file and a model's own ``batching_params.pbtxt``: TF Serving's BatchingParameters, as text.

    max_batch_size { value: 64 }  batch_timeout_micros { value: 2000 }  num_batch_threads { value: 2 }

Defaults and what is refused are those of tensorflow_serving/servables/tensorflow/bundle_factory_util.cc and
tensorflow/core/kernels/batching_util/shared_batch_scheduler.h.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format

from model_server.errors import Code, ServableError, StartError
from model_server.protos import declare
from model_server.text_config import read_config

if TYPE_CHECKING:
    from pathlib import Path

    from model_server.flags import Options

OWN_FILE = "batching_params.pbtxt"
_INT64, _BOOL = "google.protobuf.Int64Value", "google.protobuf.BoolValue"
BATCHING_PARAMETERS = declare(
    "BatchingParameters",
    max_batch_size=_INT64,
    batch_timeout_micros=_INT64,
    max_enqueued_batches=_INT64,
    num_batch_threads=_INT64,
    thread_pool_name="google.protobuf.StringValue",
    allowed_batch_sizes="repeated int64",
    pad_variable_length_inputs="bool",
    enable_large_batch_splitting=_BOOL,
    max_execution_batch_size=_INT64,
)


@dataclass(frozen=True)
class Parameters:
    """``input_limit`` rows in a request, ``batch_limit`` rows in a batch; ``allowed`` sizes of batches, none: any."""

    input_limit: int
    batch_limit: int
    timeout: float  # seconds
    max_enqueued_batches: int
    allowed: tuple[int, ...]
    pads: bool
    splits: bool


def read_common(options: Options) -> Any:
    """The message of --batching_parameters_file. Raises StartError."""
    file = options.batching_parameters_file
    if not file:
        return BATCHING_PARAMETERS()
    if not options.enable_batching:
        raise StartError(
            "server_options.batching_parameters_file set without setting enable_batching to true; "
            "add --enable_batching or leave the file out"
        )
    example = "max_batch_size { value: 64 }"
    found = read_config("batching_parameters_file", file, BATCHING_PARAMETERS(), example=example)
    batch_threads(found)
    return found


def batch_threads(common: Any) -> int:
    """Threads that run batches, of all models together. Raises StartError."""
    if not common.HasField("num_batch_threads"):
        return os.cpu_count() or 1
    threads: int = common.num_batch_threads.value
    if threads < 1:
        raise StartError(f"num_batch_threads must be positive; was {threads}")
    return threads


def read_own(folder: Path) -> Any | None:
    """A version's own message; None where it has none. Raises ServableError."""
    file = folder / OWN_FILE
    try:
        return text_format.Parse(file.read_text("utf-8"), BATCHING_PARAMETERS())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ServableError(Code.INVALID_ARGUMENT, f"Invalid protobuf file: '{file}': {error}") from None


def parameters(message: Any) -> Parameters:
    """What one model's batches follow. Raises ServableError."""

    def value(name: str, default: int) -> int:
        return getattr(message, name).value if message.HasField(name) else default

    limit = value("max_batch_size", 1000)
    splits = message.enable_large_batch_splitting.value
    batch_limit = value("max_execution_batch_size", message.max_batch_size.value) if splits else limit
    timeout, enqueued = value("batch_timeout_micros", 0), value("max_enqueued_batches", 10)
    allowed = tuple(message.allowed_batch_sizes)
    if allowed and allowed[-1] != limit:
        raise _refused(
            "Last entry in allowed_batch_sizes must match max_batch_size; "
            f"last entry was {allowed[-1]}; expected {limit}"
        )
    if limit < 1:
        raise _refused(f"input_batch_size_limit must be positive; was {limit}")
    if timeout < 0:
        raise _refused(f"batch_timeout_micros must be non-negative; was {timeout}")
    if enqueued < 1:
        raise _refused(f"max_enqueued_batches must be positive; was {enqueued}")
    if splits and not 1 <= batch_limit <= limit:
        raise _refused(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            f"max_execution_batch_size; max_batch_size was {limit}, max_execution_batch_size {batch_limit}"
        )
    return Parameters(limit, batch_limit, timeout / 1e6, enqueued, allowed, message.pad_variable_length_inputs, splits)


def _refused(message: str) -> ServableError:
    return ServableError(Code.INVALID_ARGUMENT, message)
