"""The four clients on a running server: light to import, the same methods and the same answers."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.artifacts import REPOSITORY
from serving.client import (
    AsyncGrpcClient,
    AsyncRestClient,
    ClientError,
    GrpcClient,
    Refused,
    RestClient,
    TimedOut,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from serving.local import LocalServer

ASYNC = [AsyncRestClient, AsyncGrpcClient]


def address(server: LocalServer, kind: type) -> str:
    return server.rest_address if kind in (RestClient, AsyncRestClient) else server.grpc_address


def awaited(server: LocalServer, kind: Any, use: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        async with kind(address(server, kind)) as client:
            return await use(client)

    return asyncio.run(run())


def imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    return set(done.stdout.split())


def test_importing_the_clients_imports_little_but_numpy():
    heavy = {
        "tensorflow",
        "keras",
        "grpc",
        "httpx",
        "google.protobuf",
        "asyncio",
        "ml_dtypes",
        "models",
        "model_server",
    }
    assert imported("import serving.client") & heavy == set()


def test_using_the_clients_never_imports_tensorflow(server):
    code = (
        "import numpy as np\nfrom serving.client import GrpcClient, RestClient\n"
        f"for client in (RestClient('{server.rest_address}'), GrpcClient('{server.grpc_address}')):\n"
        "    client.predict('mlp', {'features': np.ones((1, 30), np.float32)})"
    )
    assert imported(code) & {"tensorflow", "keras", "ml_dtypes", "models", "google.protobuf.json_format"} == set()


@pytest.mark.parametrize("pair", [(RestClient, AsyncRestClient), (GrpcClient, AsyncGrpcClient)])
def test_awaited_clients_have_the_same_methods(pair):
    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in found if not name.startswith("_")}

    plain, to_await = (methods(kind) for kind in pair)
    plain.pop("headers", None)
    assert plain == to_await
    assert all(inspect.iscoroutinefunction(getattr(pair[1], name)) for name in to_await)


@pytest.mark.parametrize("kind", ASYNC)
def test_awaited_clients_answer_as_the_others_do(kind, server, rest, grpc, exports):
    plain = rest if kind is AsyncRestClient else grpc
    case = exports["mlp", 2].evidence.cases("serving_default")[0]

    async def use(client: Any) -> None:
        answer = await client.predict("mlp", case.inputs, version=2, signature="serving_default")
        np.testing.assert_array_equal(answer["probability"], plain.predict("mlp", case.inputs)["probability"])
        assert (await client.status("mlp")) == plain.status("mlp")
        assert (await client.metadata("mlp", label="stable")) == plain.metadata("mlp", label="stable")
        with pytest.raises(Refused, match=r"Servable not found for request: Latest\(nothing\)"):
            await client.predict("nothing", case.inputs)

    awaited(server, kind, use)


@pytest.mark.parametrize("kind", ASYNC)
def test_awaited_clients_ask_many_at_once(kind, server, exports):
    case = exports["cnn", 2].evidence.cases("serving_default")[0]

    async def use(client: Any) -> list[dict[str, np.ndarray]]:
        rows = [{"image": case.inputs["image"][i : i + 1]} for i in range(64)]
        return await asyncio.gather(*(client.predict("cnn", row) for row in rows))

    answers = np.concatenate([answer["probabilities"] for answer in awaited(server, kind, use)])
    np.testing.assert_allclose(answers, case.outputs["probabilities"][:64], rtol=1e-5, atol=1e-5)


EVERY = [RestClient, GrpcClient, *ASYNC]


def ask(server: LocalServer, kind: Any, method: str, *arguments: Any, **options: Any) -> Any:
    """One call of any client, awaited where it is to be."""
    if kind in ASYNC:
        return awaited(server, kind, lambda client: getattr(client, method)(*arguments, **options))
    with kind(address(server, kind)) as client:
        return getattr(client, method)(*arguments, **options)


@pytest.mark.parametrize("kind", EVERY)
def test_rows_become_examples_and_answers_arrays(kind, server, exports):
    evidence = exports["mlp", 2].evidence
    rows, answers = evidence.case("serving_default", "test").inputs, evidence.case("classify", "test").outputs
    found = ask(server, kind, "classify", "mlp", rows, signature="classify", label="canary")
    assert found["classes"].tolist() == [[label.decode() for label in row] for row in answers["classes"]]
    assert found["scores"].dtype == np.float32
    np.testing.assert_allclose(found["scores"], answers["scores"], rtol=1e-5, atol=1e-5)
    evidence = exports["lstm", 2].evidence
    rows, answers = evidence.case("serving_default", "test").inputs, evidence.case("regress", "test").outputs
    found = ask(server, kind, "regress", "lstm", {"series": rows["series"][:50]}, signature="regress")
    assert found.shape == (50,)
    np.testing.assert_allclose(found, answers["outputs"][:50, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", EVERY)
def test_features_that_all_examples_share_are_sent_once(kind, server, exports):
    row = exports["mlp", 2].evidence.case("serving_default", "test").inputs["features"][0]
    shared = ask(
        server,
        kind,
        "classify",
        "mlp",
        {"unused": np.zeros(3, np.int64)},
        signature="classify",
        context={"features": row},
    )
    alone = ask(server, kind, "classify", "mlp", {"features": row[None]}, signature="classify")
    np.testing.assert_array_equal(shared["scores"], np.repeat(alone["scores"], 3, axis=0))


@pytest.mark.parametrize("kind", [GrpcClient, AsyncGrpcClient])
def test_several_signatures_are_asked_with_the_same_examples(kind, server, exports):
    rows = exports["mlp", 2].evidence.case("serving_default", "test").inputs
    found = ask(server, kind, "multi_inference", "mlp", rows, {"classify": "classify"}, version=1)
    alone = ask(server, kind, "classify", "mlp", rows, signature="classify", version=1)
    assert found.keys() == {"classify"}
    np.testing.assert_array_equal(found["classify"]["scores"], alone["scores"])


@pytest.mark.parametrize("kind", [GrpcClient, AsyncGrpcClient])
def test_config_that_the_server_refuses_is_an_error_in_its_words(kind, server):
    with pytest.raises(Refused, match="Only ModelConfigList is currently supported") as error:
        ask(server, kind, "reload_config", "custom_model_config {}")
    assert error.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_outputs_are_filtered_and_a_wrong_name_is_refused(kind, server):
    inputs = {"features": np.ones((1, 30), np.float32)}
    with kind(address(server, kind)) as client:
        assert list(client.predict("mlp", inputs, outputs=["probability"])) == ["probability"]
        with pytest.raises(Refused, match="output tensor alias not found in signature: nothing") as error:
            client.predict("mlp", inputs, outputs=["nothing"])
        assert error.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("kind", EVERY)
def test_nobody_and_nothing_in_time_are_errors_of_their_own(kind, server, free_port):
    inputs = {"tokens": np.zeros((512, 40), np.int32)}
    port = free_port()
    nobody = replace(server, grpc_address=f"127.0.0.1:{port}", rest_address=f"127.0.0.1:{port}")
    with pytest.raises(Unreachable, match=f"no server answers at 127.0.0.1:{port}"):
        ask(nobody, kind, "predict", "transformer", inputs)
    with pytest.raises(TimedOut, match=r"gave no answer within 0\.001 s"):
        ask(server, kind, "predict", "transformer", inputs, timeout=0.001)


def test_a_label_that_moved_to_other_outputs_is_read_with_the_new_metadata(rest):
    """The dtypes that a client knows belong to the version that the label pointed to when it asked."""
    inputs = {"features": np.ones((1, 30), np.float32)}
    before = rest.predict("mlp", inputs, label="stable")
    for known in rest._dtypes._known.values():
        known.clear()
        known["of_an_older_version"] = "int32"
        known["and_another"] = "int32"
    after = rest.predict("mlp", inputs, label="stable")
    np.testing.assert_array_equal(after["probability"], before["probability"])


def test_errors_are_one_tree():
    for error in (Refused, TimedOut, Unreachable):
        assert issubclass(error, ClientError)


@pytest.mark.parametrize(
    "rows", [np.array([1 + 2j]), np.array(["2020"], "datetime64[D]"), np.array([1, None], object)], ids=str
)
def test_input_that_json_cannot_hold_is_a_client_error(rows):
    with RestClient("127.0.0.1:1") as client, pytest.raises(ClientError, match=r"input x .*; cast it first"):
        client.predict("m", {"x": rows})


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_host_without_an_address_is_unreachable(kind):
    with kind("no such host:1", timeout=10) as client, pytest.raises(Unreachable, match="no server answers at no such"):
        client.status("m")


@pytest.mark.parametrize("name", ["a/b?c#d:e", "a\nb", "50 % ü"])
def test_any_name_of_a_model_or_label_reaches_the_server(server, name):
    with RestClient(server.rest_address) as client:
        with pytest.raises(Refused) as unknown_model:
            client.predict(name, {"x": np.ones(1)}, version=1)
        with pytest.raises(Refused) as unknown_label:
            client.predict("mlp", {"x": np.ones(1)}, label=name)
    assert name in unknown_model.value.message
    assert name in unknown_label.value.message
