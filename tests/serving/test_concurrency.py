"""Sixteen clients at once, each checking every answer: interpreters and buffers are never shared between requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient

CLIENTS, REQUESTS = 16, 25


@pytest.mark.parametrize("protocol", ["rest", "grpc", "both"])
def test_sixteen_clients_get_their_own_answers(protocol, server, exports):
    cases = {key: export.evidence.cases("serving_default")[0] for key, export in exports.items()}

    def work(number: int) -> int:
        kind = {"rest": RestClient, "grpc": GrpcClient, "both": (RestClient, GrpcClient)[number % 2]}[protocol]
        address = server.rest_address if kind is RestClient else server.grpc_address
        random = np.random.default_rng(number)
        checked = 0
        with kind(address) as client:
            for _ in range(REQUESTS):
                model, version = sorted(cases)[random.integers(len(cases))]
                case = cases[model, version]
                rows = random.choice(case.rows, size=random.choice([1, 2, 5, 32]))
                answer = client.predict(model, {k: v[rows] for k, v in case.inputs.items()}, version=version)
                for name, expected in case.outputs.items():
                    np.testing.assert_allclose(answer[name], expected[rows], rtol=1e-5, atol=1e-5)
                    checked += len(rows)
        return checked

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert all(checked >= REQUESTS for checked in pool.map(work, range(CLIENTS)))
