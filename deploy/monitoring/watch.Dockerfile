# Canary beside stable, for Prometheus: compare/watch.py and what it imports; no TensorFlow. The artefacts are mounted.
# By hand, from the repository root: docker build -t export-once-watch -f deploy/monitoring/watch.Dockerfile .
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/venv/bin:$PATH ARTIFACTS=/artifacts
WORKDIR /opt/watch
# It has no lock of its own: of the repository's, the lines of what it needs.
COPY requirements.txt ./
RUN awk '/^[a-z]/ {keep = /^(grpcio|numpy|prometheus-client|protobuf|typing-extensions)==/} keep' requirements.txt > needed.txt \
    && python3 -m venv /opt/venv && pip install --no-cache-dir --require-hashes --requirement needed.txt
COPY compare/__init__.py compare/decision.py compare/watch.py compare/
COPY deploy/__init__.py deploy/ports.py deploy/ports.toml deploy/
COPY export/__init__.py export/bundle.py export/evidence.py export/
COPY models/__init__.py models/artifacts.py models/errors.py models/spec.py models/
COPY serving/__init__.py serving/models_config.py serving/
COPY serving/client serving/client
USER nobody
EXPOSE 9101
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=5 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9101/metrics', timeout=2)"]
CMD ["python", "-m", "compare.watch", "--bind", "0.0.0.0", "--port", "9101", "--server", "serving:8500"]
