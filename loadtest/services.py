"""The services that a load can be put on, by the names of compare's targets; ``web-http`` is the page's way to the server."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.ports import port
from models.errors import TargetError


@dataclass(frozen=True)
class Service:
    """``user`` is who asks it (users.py); ``precision`` of what answers (compare/tolerances.toml); ``prefix`` stands before REST's paths."""

    name: str
    port_name: str
    protocol: str  # "rest" | "grpc"
    user: str
    precision: str = "float32"
    prefix: str = ""

    @property
    def address(self) -> str:
        """host:port of the deployment's."""
        return f"127.0.0.1:{port(self.port_name)}"


SERVICES = {
    service.name: service
    for service in (
        Service("serving-rest", "REST_PORT", "rest", "RestUser"),
        Service("serving-grpc", "GRPC_PORT", "grpc", "GrpcUser"),
        Service("edge-http", "EDGE_PORT", "rest", "EdgeUser", precision="int8"),
        Service("web-http", "WEB_PORT", "rest", "WebUser", prefix="/api/serving"),
    )
}


def find_service(name: str) -> Service:
    """Raises TargetError for a name that is none."""
    if name not in SERVICES:
        raise TargetError(f"no load can be put on {name!r}; there are: {', '.join(SERVICES)}")
    return SERVICES[name]
