"""The fingerprint of Python code: of what it does, so that a comment or a line break trains nothing again."""

from __future__ import annotations

import ast
import hashlib
from typing import TYPE_CHECKING

from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def parse(path: Path) -> ast.Module:
    """The syntax tree. Raises ModelError when the file is no valid Python."""
    try:
        return ast.parse(path.read_text(), str(path))
    except SyntaxError as error:
        raise ModelError(
            f"{path} is no valid Python ({error.msg}, line {error.lineno}); mend it or remove it"
        ) from None


def code_fingerprint(paths: Iterable[Path], *, extra: str = "") -> str:
    """sha256 over the syntax trees of Python files without their docstrings, and ``extra``."""
    digest = hashlib.sha256(extra.encode())
    for path in sorted(paths):
        tree = parse(path)
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(f"\0{path.name}\0{ast.dump(tree)}".encode())
    return digest.hexdigest()
