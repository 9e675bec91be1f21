"""Request logging: ``logging_config`` of a model → TFRecord files of PredictionLog, as they serve for warm-up too.

    logging_config {
      log_collector_config { type: "tfrecord" filename_prefix: "/var/log/models/mlp" }
      sampling_config { sampling_rate: 0.01 }
    }

writes ``/var/log/models/mlp-<model>-<start of the server>-<process>-<number>.tfrecord`` below --request_log_root. A record
is the request and the answer as gRPC carries them, byte for byte; a REST request becomes the message that asks the same.
Files hold whole records only and can be read while they grow. Requests never wait for them, nor fail with them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from model_server import examples
from model_server.errors import Code
from model_server.log_config import is_below
from model_server.protos import (
    ClassificationResponse,
    ExamplesRequest,
    LogMetadata,
    PredictRequest,
    PredictResponse,
    RegressionResponse,
)
from model_server.tensors import to_proto, varint
from model_server.tfrecord import framed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from model_server.log_config import LogConfig
    from model_server.manager import Manager
    from model_server.monitoring import Monitor
    from model_server.observe import Call
    from model_server.signatures import Signature

FLUSH_SECONDS = 0.2  # a record is in its file at most so much later
MAX_FILE_BYTES = 64 << 20  # a file that has grown larger is closed, and another one begun
WRITTEN_TOGETHER = 1 << 20  # bytes
MAX_QUEUED_BYTES = 64 << 20  # requests that come while so much waits for the disk are not logged
# Fields of PredictionLog: TF Serving's apis/prediction_log.proto.
_LOGS = {"Classify": 2, "Regress": 3, "MultiInference": 4, "Predict": 6}
_METADATA, _REQUEST, _RESPONSE = 1, 1, 2
_CODES = {
    errno.ENOSPC: Code.RESOURCE_EXHAUSTED,
    errno.EDQUOT: Code.RESOURCE_EXHAUSTED,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
}


class _Entry(NamedTuple):
    """A request on its way to the thread that writes. It holds no Servable: that would keep a version from unloading."""

    config: LogConfig
    model: str
    version: int
    signature: Signature | None
    api: str
    body: bytes  # with the answer: by gRPC
    answer: bytes
    inputs: Mapping[str, NDArray]  # with the outputs: by REST
    outputs: Mapping[str, NDArray]
    time: float
    size: int


class RequestLog:
    """Observes requests, and writes a sample of them from a thread. ``monitor`` counts the records, also those lost."""

    def __init__(self, manager: Manager, root: str, monitor: Monitor | None) -> None:
        self._manager, self._root, self._monitor = manager, root, monitor
        self._lock = threading.Lock()
        self._waiting: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._files: dict[tuple[Path, str], _File] = {}
        self._complaints: dict[tuple[Path, str], int] = {}  # by file: records that were lost since it last worked
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def ended(self, call: Call) -> None:
        servable = call.servable
        if call.code is not Code.OK or servable is None or call.api not in _LOGS:
            return
        config = self._manager.log_config(servable.name)
        if config is None or random.random() >= config.rate:
            return
        by_grpc = call.protocol == "GRPC"
        entry = _Entry(
            config,
            servable.name,
            servable.version,
            call.signature if call.api != "MultiInference" else None,
            call.api,
            call.body if by_grpc else b"",
            call.answer if by_grpc else b"",
            {} if by_grpc else call.inputs,
            {} if by_grpc else call.outputs,
            time.time(),
            len(call.body) + len(call.answer),
        )
        with self._lock:
            fits = not self._waiting_bytes or self._waiting_bytes + entry.size <= MAX_QUEUED_BYTES
            if fits:
                self._waiting.append(entry)
                self._waiting_bytes += entry.size
        if not fits:
            self._lost((config.prefix, entry.model), 1, Code.RESOURCE_EXHAUSTED, "the disk is too slow")
            self._wake.set()

    def close(self, seconds: float) -> None:
        """Write what waits and close the files."""
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)

    # ------------------------------------------------------------ on the thread

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            try:
                self._write_waiting()
                self._close_unwanted()
            except Exception as error:  # the thread must outlive whatever a file system does
                _say(f"the request log had to skip something: {type(error).__name__}: {error}")
        self._write_waiting()
        for file in self._files.values():
            file.close()

    def _write_waiting(self) -> None:
        records: dict[tuple[Path, str], list[bytes]] = {}
        size = 0
        for _ in range(len(self._waiting)):
            entry = self._waiting.popleft()
            with self._lock:
                self._waiting_bytes -= entry.size
            key = entry.config.prefix, entry.model
            try:
                record = framed(_prediction_log(entry))
            except Exception as error:  # one request that cannot be written must not end the log
                self._lost(key, 1, Code.INTERNAL, f"{type(error).__name__}: {error}")
                continue
            records.setdefault(key, []).append(record)
            size += len(record)
            if size >= WRITTEN_TOGETHER:
                self._write(records)
                records, size = {}, 0
        self._write(records)

    def _write(self, records: Mapping[tuple[Path, str], list[bytes]]) -> None:
        for key, found in records.items():
            if key not in self._files:
                self._files[key] = _File(*key, self._root)
            try:
                self._files[key].write(b"".join(found))
            except OSError as error:
                code = _CODES.get(error.errno or 0, Code.UNAVAILABLE)
                self._lost(key, len(found), code, error.strerror or str(error))
            else:
                self._written(key, len(found))

    def _written(self, key: tuple[Path, str], number: int) -> None:
        with self._lock:
            lost = self._complaints.pop(key, 0)
        if lost:
            _say(f"requests of {key[1]} are logged to {key[0]}* again; {lost} were not")
        self._count(key[1], Code.OK, number)

    def _lost(self, key: tuple[Path, str], number: int, code: Code, reason: str) -> None:
        """Said once until it works again, and counted."""
        with self._lock:
            first = key not in self._complaints
            self._complaints[key] = self._complaints.get(key, 0) + number
        if first:
            _say(f"requests of {key[1]} cannot be logged to {key[0]}*: {reason}; they are answered all the same")
        self._count(key[1], code, number)

    def _count(self, model: str, code: Code, number: int) -> None:
        if self._monitor is not None:
            self._monitor.logged(model, code, number)

    def _close_unwanted(self) -> None:
        """Files of models that are served no longer, or logged elsewhere."""
        for (prefix, model), file in list(self._files.items()):
            config = self._manager.log_config(model)
            if config is None or config.prefix != prefix:
                file.close()
                del self._files[prefix, model]


class _File:
    """The open file of one model; the next one when it is full, or gone."""

    def __init__(self, prefix: Path, model: str, root: str) -> None:
        started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._stem = f"{prefix.name}-{quote(model, safe='')}-{started}-{os.getpid()}"
        self._prefix, self._root = prefix, root
        self._number = 0
        self._descriptor: int | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append whole records, all of them or none. Raises OSError."""
        if self._descriptor is not None and not os.fstat(self._descriptor).st_nlink:
            self.close()  # somebody removed it
        descriptor = self._descriptor if self._descriptor is not None else self._open()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise
        self._size += len(data)
        if self._size >= MAX_FILE_BYTES:
            self.close()

    def _open(self) -> int:
        folder = self._prefix.parent
        if not is_below(self._root, self._prefix):  # a link was made since the config was read
            raise OSError(errno.EACCES, f"{folder} leads out of --request_log_root")
        folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            path = folder / f"{self._stem}-{self._number:05d}.tfrecord"
            self._number += 1
            with contextlib.suppress(FileExistsError):  # in a container every server may be the same process number
                self._descriptor = os.open(path, flags, 0o640)
                self._size = 0
                return self._descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _prediction_log(entry: _Entry) -> bytes:
    """A serialized PredictionLog, put together from messages that are serialized already."""
    metadata = LogMetadata(timestamp_secs=int(entry.time))
    metadata.model_spec.name = entry.model
    metadata.model_spec.version.value = entry.version
    if entry.signature is not None:
        metadata.model_spec.signature_name = entry.signature.name
    metadata.sampling_config.sampling_rate = entry.config.rate
    request, response = (entry.body, entry.answer) if entry.answer else _messages(entry)
    log = _field(_REQUEST, request) + _field(_RESPONSE, response)
    return _field(_METADATA, metadata.SerializeToString()) + _field(_LOGS[entry.api], log)


def _field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def _messages(entry: _Entry) -> tuple[bytes, bytes]:
    """The request and the response that gRPC would have carried for what a REST request asked."""
    request = (PredictRequest if entry.api == "Predict" else ExamplesRequest)()
    kinds = {"Predict": PredictResponse, "Classify": ClassificationResponse, "Regress": RegressionResponse}
    response = kinds[entry.api]()
    assert entry.signature is not None
    request.model_spec.name = response.model_spec.name = entry.model
    request.model_spec.signature_name = response.model_spec.signature_name = entry.signature.name
    response.model_spec.version.value = entry.version
    if entry.api == "Predict":
        for name, array in entry.inputs.items():
            to_proto(array, request.inputs[name])
        for name, array in entry.outputs.items():
            to_proto(array, response.outputs[name])
    else:
        serialized = entry.inputs[examples.INPUT].tolist()
        request.input.example_list.examples.extend(serialized)
        method = examples.CLASSIFY if entry.api == "Classify" else examples.REGRESS
        task = examples.Task(entry.signature, method, [])
        examples.fill(response.result, examples.read(task, entry.outputs, len(serialized)))
    return request.SerializeToString(), response.SerializeToString()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
