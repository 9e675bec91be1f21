"""One file per runtime; each defines ``TARGETS``. A folder ``compare/targets/`` elsewhere on PYTHONPATH adds to them."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
