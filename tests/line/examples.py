"""The two files that CONTRIBUTING.md shows, word for word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from models.artifacts import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def write_examples(folder: Path) -> None:
    """``models/wine.py`` and ``compare/targets/lite_plain.py``, below ``folder``."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    model, target = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for name, content in (("models/wine.py", model), ("compare/targets/lite_plain.py", target)):
        assert f"`{name}`" in text
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
