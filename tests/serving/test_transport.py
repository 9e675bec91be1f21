"""gRPC's transport: message sizes, compression, deadlines, clients that leave, sockets, health, reflection."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from model_server import grpc_methods, reflection
from model_server.connection import Leaving
from model_server.core import Core
from model_server.flags import Options
from model_server.manager import Manager
from model_server.protos import PredictRequest, PredictResponse

from deploy.ports import free_ports
from serving.launch import command
from serving.local import local_server
from tests.serving.deadlines import wait_for
from tests.serving.plain_http import FEATURES, http_answer
from tests.serving.refusals import refusal

if TYPE_CHECKING:
    from serving.local import LocalServer

PREDICT = "/tensorflow.serving.PredictionService/Predict"
HEALTH = "/grpc.health.v1.Health/"
NO_LIMIT = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


def unary(address: str, body: bytes, path: str = PREDICT, **options) -> bytes:
    """One call with and for raw bytes. Raises grpc.RpcError."""
    with grpc.insecure_channel(address, NO_LIMIT) as channel:
        call = channel.unary_unary(path, request_serializer=lambda b: b, response_deserializer=lambda b: b)
        return call(body, **{"timeout": 60, **options})


def predict_body(rows: int, model: str = "mlp") -> bytes:
    request = PredictRequest()
    request.model_spec.name = model
    name, shape, value = {
        "mlp": ("features", (rows, FEATURES), np.float32(0.5)),
        "lstm": ("series", (rows, 52, 1), np.float32(330)),
        "transformer": ("tokens", (rows, 40), np.int32(1)),
    }[model]
    tensor = request.inputs[name]
    tensor.dtype = 3 if model == "transformer" else 1
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_content = np.full(shape, value).tobytes()
    return request.SerializeToString()


@pytest.mark.slow
def test_large_message_goes_through_in_both_directions(server):
    rows = 1_200_000  # 144 MB in, 4.8 MB out: beyond gRPC's usual 4 MB either way
    answer = PredictResponse.FromString(unary(server.grpc_address, predict_body(rows)))
    assert [dim.size for dim in answer.outputs["probability"].tensor_shape.dim] == [rows, 1]
    assert answer.ByteSize() > 4 << 20


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_message_is_understood(compression, server):
    body = unary(server.grpc_address, predict_body(500), compression=compression)
    assert PredictResponse.FromString(body) == PredictResponse.FromString(unary(server.grpc_address, predict_body(500)))


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_message_over_the_limit_is_resource_exhausted(compression, odd):
    running, _ = odd
    for _ in range(2):  # and the connection goes on
        with pytest.raises(grpc.RpcError, match="larger than 1048576 bytes; send less at once") as error:
            unary(running.grpc_address, predict_body(20_000), compression=compression)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert unary(running.grpc_address, predict_body(1))


def test_unknown_compression_is_unimplemented(server):
    with pytest.raises(grpc.RpcError) as error:
        raw_grpc_frame(server, b"\1\0\0\0\1x", "snappy")
    assert error.value.args == ("12", "compression 'snappy' is not supported")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_damaged_compressed_message_is_internal(encoding, server):
    with pytest.raises(grpc.RpcError) as error:
        raw_grpc_frame(server, b"\1\0\0\0\1x", encoding)
    assert error.value.args == ("13", "the compressed message is damaged")


def raw_grpc_frame(server: LocalServer, frame: bytes, encoding: str) -> None:
    """grpcio cannot send a wrong frame; Envoy takes HTTP/1.1 as well. Raises grpc.RpcError(status, message)."""
    headers = {"content_type": "application/grpc", "grpc_encoding": encoding}
    _, answer, _ = http_answer(server.grpc_address, "POST", PREDICT, frame, **headers)
    raise grpc.RpcError(answer["grpc-status"], answer["grpc-message"].replace("%27", "'"))


def test_browser_on_the_grpc_port_is_told_so(server):
    status, _, body = http_answer(server.grpc_address, "GET", "/v1/models/mlp")
    assert (status, body) == (415, b"This port speaks gRPC; REST has a port of its own, --rest_api_port.\n")


def test_deadline_is_honoured_and_the_next_request_answered(server):
    with pytest.raises(grpc.RpcError) as error:
        unary(server.grpc_address, predict_body(40_000, "lstm"), timeout=0.05)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert unary(server.grpc_address, predict_body(1))


@pytest.mark.parametrize(
    ("header", "details"),
    [(b"grpc-timeout: 300m\r\n", b"Deadline Exceeded"), (b"", b"nothing came for 1 s in the middle of a request")],
    ids=["deadline", "silence"],
)
def test_message_that_does_not_come_to_its_end_is_given_up(header, details, odd):
    running, _ = odd
    with socket.create_connection(("127.0.0.1", running.grpc_port), timeout=30) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n%s"
            b"transfer-encoding: chunked\r\n\r\n5\r\n\0\0\0\0\x09\r\n" % (PREDICT.encode(), header)
        )
        answer = connection.recv(4096)
    assert b"grpc-status: 4\r\n" in answer
    assert details in answer


def cpu(process: subprocess.Popen) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def idle(process: subprocess.Popen) -> bool:
    before = cpu(process)
    time.sleep(0.5)
    return cpu(process) - before < 0.02


@pytest.mark.slow
def test_work_of_clients_that_leave_is_not_done(server):
    """Far more requests than threads, all abandoned: those that wait for a thread are never run."""
    count, body = 60, predict_body(3000, "transformer")
    with grpc.insecure_channel(server.grpc_address, NO_LIMIT) as channel:
        call = channel.unary_unary(PREDICT, request_serializer=lambda b: b, response_deserializer=lambda b: b)
        call(body, timeout=60)
        wait_for(lambda: idle(server.process), "the server is idle")
        before = cpu(server.process)
        call(body, timeout=60)
        one = cpu(server.process) - before
        before = cpu(server.process)
        calls = [call.future(body, timeout=60) for _ in range(count)]
        time.sleep(0.1)
        for waiting in calls:
            waiting.cancel()
    wait_for(lambda: idle(server.process), "the server is idle")
    used = cpu(server.process) - before
    assert used < 0.7 * count * one, (used, one)
    assert unary(server.grpc_address, predict_body(1))


def test_leaving_cancels_only_a_task_that_waits():
    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def answer(*, waits: bool) -> str:
        leaving = Leaving(receive)
        try:
            if waits:
                await asyncio.sleep(30)
            return "answered"
        except asyncio.CancelledError:
            return f"cancelled, {leaving.gone}"
        finally:
            leaving.stop()

    assert asyncio.run(answer(waits=True)) == "cancelled, True"
    assert asyncio.run(answer(waits=False)) == "answered"


@pytest.mark.slow
def test_unix_socket_replaces_a_stale_one_and_is_removed_at_the_end(repository_folder, odd, tmp_path):
    _, path = odd
    assert unary(f"unix:{path}", predict_body(1))
    own = tmp_path / "own.sock"
    flags = (f"--grpc_socket_path={own}",)
    with local_server(repository_folder / "models.config", engine="litert", flags=flags) as running:
        assert unary(f"unix:{own}", predict_body(1)) == unary(running.grpc_address, predict_body(1))
    assert not own.exists()


def test_unusable_socket_path_stops_the_start_with_one_sentence(odd, base, tmp_path):
    _, taken = odd
    file = tmp_path / "file"
    file.write_text("precious")
    long = tmp_path / ("x" * 120)
    for path, sentence in (
        (taken, f"another process listens on {taken}; stop it or choose"),
        (file, f"{file} exists and is no socket; choose another path with --grpc_socket_path="),
        (tmp_path / "none" / "sock", "No such file or directory; choose another path"),
        (long, "too long; choose another path"),
    ):
        line = refusal(f"--grpc_socket_path={path}", f"--model_base_path={base}", f"--port={free_ports(1)[0]}")
        assert sentence in line
    assert file.read_text() == "precious"
    assert unary(f"unix:{taken}", predict_body(1))


def test_bad_channel_argument_stops_the_start(base):
    flags = ["--grpc_channel_arguments=grpc.max_connection_age_ms=soon", f"--model_base_path={base}"]
    flags.append(f"--port={free_ports(1)[0]}")
    done = subprocess.run([command("litert"), *flags], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        "error: --grpc_channel_arguments: grpc.max_connection_age_ms=soon is no number; "
        "write grpc.max_connection_age_ms=1000\n"
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_both_loopback_addresses_answer_and_no_other(address, server):
    assert unary(f"{address}:{server.grpc_port}", predict_body(1))
    assert http_answer(f"{address}:{server.rest_port}", "GET", "/v1/models/mlp")[0] == 200
    found = {c.laddr.ip for c in psutil.Process(server.process.pid).net_connections() if c.status == "LISTEN"}
    assert found == {"127.0.0.1", "::1"}


# ------------------------------------------------------------------ health and reflection


def test_health_is_off_unless_asked_for(server, odd):
    running, _ = odd
    for service in ("Check", "Watch"):
        with pytest.raises(grpc.RpcError) as error:
            unary(server.grpc_address, b"", HEALTH + service)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    for name in (b"", b"ModelService", b"PredictionService"):
        assert unary(running.grpc_address, named(name), HEALTH + "Check") == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as error:
        unary(running.grpc_address, named(b"nothing"), HEALTH + "Check")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def named(service: bytes) -> bytes:
    """A HealthCheckRequest."""
    return b"\x0a" + bytes([len(service)]) + service if service else b""


@pytest.mark.slow
def test_health_watch_tells_when_the_server_drains(repository_folder):
    with (
        local_server(
            repository_folder / "models.config", engine="litert", flags=("--enable_grpc_healthcheck_service",)
        ) as running,
        grpc.insecure_channel(running.grpc_address, NO_LIMIT) as channel,
    ):
        watch = channel.unary_stream(
            HEALTH + "Watch", request_serializer=lambda b: b, response_deserializer=lambda b: b
        )
        unknown = watch(named(b"nothing"), timeout=30)
        assert next(unknown) == b"\x08\x03"
        unknown.cancel()
        serving = watch(b"", timeout=30)
        assert next(serving) == b"\x08\x01"
        # A request in flight keeps the process alive long enough for the watcher to hear of it.
        waiting = channel.unary_unary(PREDICT, request_serializer=lambda b: b, response_deserializer=lambda b: b)
        before = cpu(running.process)
        future = waiting.future(predict_body(20_000, "lstm"), timeout=60)
        wait_for(lambda: cpu(running.process) > before + 0.1, "the server works on it")
        running.process.terminate()
        assert next(serving) == b"\x08\x02"
        assert future.result()


def test_reflection_describes_every_service(odd):
    running, _ = odd
    with grpc.insecure_channel(running.grpc_address, NO_LIMIT) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = database.get_services()
        pool = DescriptorPool(database)
        methods = {
            f"{name}/{method.name}": (method.input_type.full_name, method.output_type.full_name)
            for name in services
            for method in pool.FindServiceByName(name).methods
        }
        proto = pool.FindMessageTypeByName("tensorflow.TensorProto").file
    assert set(services) == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    }
    api = "tensorflow.serving."
    assert methods[f"{api}PredictionService/Predict"] == (f"{api}PredictRequest", f"{api}PredictResponse")
    assert methods[f"{api}PredictionService/Classify"] == (
        f"{api}ClassificationRequest",
        f"{api}ClassificationResponse",
    )
    assert methods[f"{api}ModelService/HandleReloadConfigRequest"] == (
        f"{api}ReloadConfigRequest",
        f"{api}ReloadConfigResponse",
    )
    assert "tensorflow/core/framework/types.proto" in [file.name for file in proto.dependencies]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_several_questions_on_one_stream(version, server):
    asked = [
        reflection_pb2.ServerReflectionRequest(file_by_filename="tensorflow_serving/apis/predict.proto"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"grpc.reflection.{version}.ServerReflection"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="tensorflow.TensorProto"),
        reflection_pb2.ServerReflectionRequest(list_services="*"),
    ]
    with grpc.insecure_channel(server.grpc_address, NO_LIMIT) as channel:
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        answers = list(call(iter(asked), timeout=30))
    assert [answer.original_request for answer in answers] == asked
    kinds = [answer.WhichOneof("message_response") for answer in answers]
    assert kinds == [
        "file_descriptor_response",
        "file_descriptor_response",
        "error_response",
        "all_extension_numbers_response",
        "list_services_response",
    ]
    assert answers[2].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_every_grpc_method_is_described():
    options = Options()
    options.values["enable_grpc_healthcheck_service"] = True
    for path in grpc_methods.methods(Core(Manager([], options), options)):
        service, method = path[1:].split("/")
        assert method in reflection._TYPES[service]
