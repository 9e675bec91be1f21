"""Outputs and latency of every target, side by side, with one verdict."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)  # see compare/targets/__init__.py
