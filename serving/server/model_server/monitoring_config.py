"""--monitoring_config_file: TF Serving's MonitoringConfig in text format.

prometheus_config { enable: true  path: "/monitoring/prometheus/metrics" }
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_server.errors import StartError
from model_server.protos import declare
from model_server.text_config import read_config

if TYPE_CHECKING:
    from model_server.flags import Options

DEFAULT_PATH = "/monitoring/prometheus/metrics"
PROMETHEUS_CONFIG = declare("PrometheusConfig", enable="bool", path="string")
MONITORING_CONFIG = declare("MonitoringConfig", prometheus_config="tensorflow.serving.PrometheusConfig")


def read_monitoring(options: Options) -> str:
    """The page's path, empty where there is none. Raises StartError."""
    file = options.monitoring_config_file
    if not file:
        return ""
    example = "prometheus_config { enable: true }"
    config = read_config("monitoring_config_file", file, MONITORING_CONFIG(), example=example)
    path = config.prometheus_config.path or DEFAULT_PATH
    if not path.startswith("/") or "?" in path:
        raise StartError(f"{file}: the path {path!r} cannot be asked for; write for example {DEFAULT_PATH}")
    return path if config.prometheus_config.enable else ""
