"""The flags: tensorflow_model_server's spelling and defaults, and a few of our own.

``--flag=value``, ``--flag value`` and, for booleans, a bare ``--flag``. Like the real server, an unknown flag is
reported and otherwise ignored.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model_server.errors import StartError


class Flag(NamedTuple):
    name: str
    default: Any
    help: str


_THREADS = 4 * (os.cpu_count() or 1)  # TF Serving's default

FLAGS = (
    Flag("port", 8500, "TCP port for gRPC"),
    Flag("rest_api_port", 0, "TCP port for REST; 0: no REST"),
    Flag("rest_api_timeout_in_ms", 30000, "time limit of a REST request"),
    Flag("rest_api_num_threads", _THREADS, "see --grpc_max_threads; the larger of the two counts"),
    Flag("rest_api_enable_cors_support", False, "let pages of any origin read the answers (CORS headers)"),
    Flag(
        "model_config_file", "", "text protobuf with a model_config_list; replaces --model_name and --model_base_path"
    ),
    Flag("model_config_file_poll_wait_seconds", 0.0, "seconds between two looks at that file; 0: read it once"),
    Flag("model_name", "default", "name of the one model that is served without a config file"),
    Flag("model_base_path", "", "absolute folder with that model's numeric version folders"),
    Flag("file_system_poll_wait_seconds", 1.0, "seconds between two looks for new versions; 0: look once, -1: never"),
    Flag("max_num_load_retries", 5, "further attempts after a failed load"),
    Flag("load_retry_interval_micros", 60_000_000, "time between two attempts to load"),
    Flag("num_load_threads", 0, "models that are loaded at the same time; 0: one"),
    Flag("num_unload_threads", 0, "models that are unloaded at the same time; 0: one"),
    Flag("saved_model_tags", "serve", "tags of the MetaGraph to load, with commas between them"),
    Flag("enable_batching", False, "run requests that come about the same time as one"),
    Flag("batching_parameters_file", "", "text protobuf BatchingParameters; without it, TF Serving's defaults"),
    Flag(
        "enable_per_model_batching_parameters",
        False,
        "take them from batching_params.pbtxt in a version's folder instead, threads excepted; without it no batching",
    ),
    Flag("enable_model_warmup", True, "replay assets.extra/tf_serving_warmup_requests before a version serves"),
    Flag("num_request_iterations_for_warmup", 1, "times that each of those requests is replayed"),
    Flag("allow_version_labels_for_unavailable_models", False, "accept labels that point to a version not loaded yet"),
    Flag("prefer_tflite_model", True, "run model.tflite on LiteRT where it lies beside saved_model.pb"),
    Flag("enable_signature_method_name_check", False, "Classify and Regress want the signature's method_name to fit"),
    Flag("enable_serialization_as_tensor_content", False, "answer gRPC with tensor_content instead of typed fields"),
    Flag("enable_grpc_healthcheck_service", False, "answer grpc.health.v1.Health: Check and Watch"),
    Flag("tensorflow_intra_op_parallelism", 0, "threads inside one operation; 0: TensorFlow decides"),
    Flag("tensorflow_inter_op_parallelism", 0, "operations run side by side; 0: TensorFlow decides"),
    Flag("tensorflow_session_parallelism", 0, "both of these at once; 0: TensorFlow decides"),
    Flag("grpc_socket_path", "", "unix socket for gRPC, beside the TCP port"),
    Flag("grpc_max_threads", _THREADS, "threads that run models, where that takes longer; more requests wait for one"),
    Flag("grpc_channel_arguments", "", "comma-separated, for example grpc.max_connection_age_ms=60000"),
    Flag("ssl_config_file", "", "text protobuf SSLConfig with PEM texts: TLS for gRPC"),
    Flag("monitoring_config_file", "", "text protobuf MonitoringConfig: metrics for Prometheus on the REST port"),
    Flag("version", False, "print the version and leave"),
    Flag("help", False, "print the flags and leave"),
)
# What tensorflow_model_server does not have.
OWN_FLAGS = (
    Flag("bind_address", "127.0.0.1", "address to listen on; the default is loopback, IPv6's too where there is one"),
    Flag(
        "model_roots", "", "absolute folders, with commas between them, outside of which no model is loaded; none: any"
    ),
    Flag(
        "request_log_root", "", "absolute folder below which models' logging_config may write requests; none: nowhere"
    ),
    Flag("drain_seconds", 10.0, "time that requests in flight get after SIGTERM"),
    Flag("enable_grpc_reflection", True, "answer grpc.reflection (v1 and v1alpha), which grpcurl asks"),
    Flag("max_request_bytes", 512 << 20, "largest request, unpacked; at most 2147483647, the limit of gRPC"),
    Flag("request_idle_seconds", 60.0, "a client that sends nothing for so long in the middle of a request is cut off"),
)
# Flags of the real server that change nothing here yet: accepted, with a note.
WITHOUT_EFFECT = frozenset(
    [
        "thread_pool_factory_config_file",
        "mixed_precision",
        "flush_filesystem_caches",
        "per_process_gpu_memory_fraction",
        "enable_profiler",
        "xla_cpu_compilation_enabled",
        "tensorflow_session_config_file",
        "experimental_cc_shared_libs",
        "remove_unused_fields_from_bundle_metagraph",
        "skip_initialize_tpu",
        "use_alts_credentials",
        "platform_config_file",
    ]
)


@dataclass
class Options:
    """Every flag's value, by name."""

    values: dict[str, Any] = field(default_factory=lambda: {f.name: f.default for f in (*FLAGS, *OWN_FLAGS)})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.values[name]


def parse(arguments: list[str]) -> tuple[Options, list[str]]:
    """Command line → options, and notes for stderr. Raises StartError when a value does not fit its flag."""
    options, notes = Options(), []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.removeprefix("--").partition("=")
        if name in WITHOUT_EFFECT and argument.startswith("--"):
            notes.append(f"--{name} is accepted, but has no effect in this version")
        elif not argument.startswith("--") or name not in options.values:
            notes.append(f"unknown argument: {argument}")
        else:
            default = options.values[name]
            if not equals and not isinstance(default, bool):
                if not rest or rest[0].startswith("--"):
                    raise StartError(f"--{name} needs a value; write --{name}={default or '…'}")
                value = rest.pop(0)
            options.values[name] = _convert(name, value, default, bare=not equals)
    _check_together(options)
    return options, notes


def _check_together(options: Options) -> None:
    for name in ("grpc_max_threads", "rest_api_num_threads"):
        if options.values[name] < 1:
            raise StartError(
                f"--{name}={options.values[name]} leaves no thread to run a model; write --{name}=1 or more"
            )
    for name, least in (("max_request_bytes", 1), ("request_idle_seconds", 0.001), ("drain_seconds", 0)):
        if options.values[name] < least:
            raise StartError(f"--{name}={options.values[name]} is too small; write --{name}={least} or more")
    if (
        options.tensorflow_session_parallelism > 0
        and options.tensorflow_intra_op_parallelism > 0
        and options.tensorflow_inter_op_parallelism > 0
    ):
        raise StartError(
            "Either configure tensorflow_session_parallelism or (tensorflow_intra_op_parallelism, "
            "tensorflow_inter_op_parallelism) separately. You cannot configure all; leave one of them out"
        )


def _convert(name: str, text: str, default: Any, *, bare: bool) -> Any:
    if isinstance(default, bool):
        if bare or text.lower() in ("true", "1"):
            return True
        if text.lower() in ("false", "0"):
            return False
        raise StartError(f"--{name}={text} is neither true nor false; write --{name}=true")
    if isinstance(default, str):
        return text
    try:
        if math.isfinite(number := type(default)(text)):
            return number
        raise ValueError
    except ValueError:
        raise StartError(f"--{name}={text} is no number; write for example --{name}={default}") from None


def usage() -> str:
    program = os.environ.get("MODEL_SERVER_PROGRAM", "model-server")
    lines = [f"usage: {program} [flags]", "", "Flags of tensorflow_model_server:"]
    lines += [f"  --{f.name}={f.default!s:<12} {f.help}" for f in FLAGS]
    lines += ["", "Flags of its own:"]
    lines += [f"  --{f.name}={f.default!s:<12} {f.help}" for f in OWN_FLAGS]
    return "\n".join(lines)
