"""--ssl_config_file: TLS for gRPC with and without client certificates, and one sentence for each mistake."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import grpc
import psutil
import pytest
from model_server.protos import GetModelStatusRequest, GetModelStatusResponse

from deploy.ports import free_ports
from serving.client.rest import RestClient
from serving.launch import command
from serving.local import local_server
from tests.serving.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving.local import LocalServer

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl program to make certificates with")


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, str]:
    """PEM texts by file name: a CA with a server's and a client's pair, a stranger of another CA, a key that is too short."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    own = ("req", "-x509", "-days", "3", "-subj")
    for ca in ("ca", "otherca"):
        openssl(*own, f"/CN=test {ca}", *curve, "-keyout", f"{ca}.key", "-out", f"{ca}.crt")
    openssl(*own, "/CN=short", "-newkey", "rsa:1024", "-nodes", "-keyout", "short.key", "-out", "short.crt")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for who, ca in (("server", "ca"), ("client", "ca"), ("stranger", "otherca")):
        openssl("req", "-subj", f"/CN={who}", *curve, "-keyout", f"{who}.key", "-out", f"{who}.csr")
        signed = ("-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-days", "3", "-in", f"{who}.csr", *signed, "-out", f"{who}.crt")
    return {file.name: file.read_text() for file in folder.iterdir() if file.suffix in (".key", ".crt")}


def ssl_config(path: Path, **fields: str | bool) -> Path:
    """An SSLConfig in text format; the PEM texts in one line each, as TF Serving's users write them."""
    lines = []
    for name, value in fields.items():
        text = str(value).lower() if isinstance(value, bool) else '"' + value.replace("\n", "\\n") + '"'
        lines.append(f"{name}: {text}\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module", params=[False, True], ids=["server certificate", "client certificates"])
def tls_server(request, keys, repository_folder, tmp_path_factory) -> Iterator[tuple[LocalServer, bool]]:
    file = tmp_path_factory.mktemp("config") / "ssl.config"
    fields: dict[str, str | bool] = {"server_key": keys["server.key"], "server_cert": keys["server.crt"]}
    if request.param:
        fields |= {"custom_ca": keys["ca.crt"], "client_verify": True}
    flags = (f"--ssl_config_file={ssl_config(file, **fields)}",)
    with local_server(repository_folder / "models.config", engine="litert", flags=flags) as running:
        yield running, request.param


def ask(running: LocalServer, credentials: grpc.ChannelCredentials | None) -> str:
    """GetModelStatus of mlp → "OK" or the error's code."""
    address = f"localhost:{running.grpc_port}"
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)
    )
    request = GetModelStatusRequest()
    request.model_spec.name = "mlp"
    with channel:
        call = channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            request_serializer=GetModelStatusRequest.SerializeToString,
            response_deserializer=GetModelStatusResponse.FromString,
        )
        try:
            assert call(request, timeout=5).model_version_status
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def credentials(keys: dict[str, str], ca: str = "ca", who: str = "") -> grpc.ChannelCredentials:
    pair = (keys[f"{who}.key"].encode(), keys[f"{who}.crt"].encode()) if who else (None, None)
    return grpc.ssl_channel_credentials(keys[f"{ca}.crt"].encode(), *pair)


@pytest.mark.slow
def test_only_clients_with_the_right_certificates_get_through(tls_server, keys):
    running, verified = tls_server
    assert ask(running, credentials(keys, who="client")) == "OK"
    assert ask(running, credentials(keys)) == ("UNAVAILABLE" if verified else "OK")
    assert ask(running, credentials(keys, who="stranger")) == ("UNAVAILABLE" if verified else "OK")
    assert ask(running, credentials(keys, ca="otherca", who="client")) == "UNAVAILABLE"
    assert ask(running, None) == "UNAVAILABLE"
    assert ask(running, credentials(keys, who="client")) == "OK"
    with RestClient(running.rest_address) as rest:
        assert rest.status("mlp")  # ssl_config_file is for gRPC alone


@pytest.mark.slow
def test_private_key_is_not_on_the_command_line(tls_server):
    running, _ = tls_server
    assert "PRIVATE KEY" not in " ".join(psutil.Process(running.process.pid).cmdline())


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"server_key": "server.key"}, 'has no server_cert; add server_cert: "…" in PEM format'),
        ({"server_cert": "server.crt"}, 'has no server_key; add server_key: "…" in PEM format'),
        (
            {"server_key": "server.key", "server_cert": "server.crt", "client_verify": True},
            "has no custom_ca; add custom_ca: \"…\" in PEM format because client_verify is true",
        ),
        ({"server_key": "client.key", "server_cert": "server.crt"}, "server_key and server_cert do not belong together"),
        ({"server_key": "rubbish", "server_cert": "server.crt"}, "cannot be used: Failed to load server_key"),
        ({"server_key": "server.key", "server_cert": "rubbish"}, "cannot be used: Failed to load server_cert"),
        ({"server_key": "short.key", "server_cert": "short.crt"}, "2048-bit or larger keys are supported"),
        (
            {"server_key": "server.key", "server_cert": "server.crt", "custom_ca": "rubbish", "client_verify": True},
            "cannot be used: Failed to load custom_ca",
        ),
    ],
)  # fmt: skip
def test_unusable_keys_stop_the_start_with_one_sentence(fields, sentence, keys, base, tmp_path):
    file = ssl_config(tmp_path / "ssl.config", **{k: keys.get(v, v) for k, v in fields.items()})
    flags = [f"--ssl_config_file={file}", f"--model_base_path={base}", f"--port={free_ports(1)[0]}"]
    if "add " in sentence:
        line = refusal(*flags)
    else:  # Envoy says so, which only the server's own environment has
        done = subprocess.run([command("litert"), *flags], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        (line,) = done.stderr.strip().splitlines()
    assert sentence in line
    assert line.startswith(f"error: --ssl_config_file={file} ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [(None, "cannot be read: No such file or directory"), ("server_key 3", "is no SSLConfig in text format")],
)
def test_unreadable_config_stops_the_start_with_one_sentence(text, sentence, base, tmp_path):
    file = tmp_path / "ssl.config"
    if text is not None:
        file.write_text(text)
    line = refusal(f"--ssl_config_file={file}", f"--model_base_path={base}", f"--port={free_ports(1)[0]}")
    assert sentence in line
    assert line.startswith(f"error: --ssl_config_file={file} ")
