"""The way between raw units and what a file takes, for a runtime that computes elsewhere; a device does the same inside.

What stands around the file is a multiplication and an addition per value, which no latency of such a target holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.errors import EdgeError
from edge.tensors import Tensor
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compare.target import Tensors


class Border:
    """``description``: the json beside the file. A tensor without an affine in it passes as it is."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._inputs, self._outputs = (_normalised(description, side) for side in ("inputs", "outputs"))

    def to_file(self, inputs: Tensors) -> Tensors:
        """Raises TargetError for an input that does not fit."""
        try:
            for name, tensor in self._inputs.items():
                if name in inputs:  # the page says what is missing
                    tensor.check(inputs[name])
            return {
                name: self._inputs[name].to_file(inputs) if name in self._inputs else value
                for name, value in inputs.items()
            }
        except EdgeError as error:
            raise TargetError(str(error)) from error

    def to_raw(self, answers: Tensors, inputs: Tensors) -> Tensors:
        return {
            name: self._outputs[name].to_raw(value, inputs) if name in self._outputs else value
            for name, value in answers.items()
        }


def _normalised(description: Mapping[str, Any], side: str) -> dict[str, Tensor]:
    affine = description.get("affine", {}).get(side, {})
    told = {tensor["name"]: tensor for tensor in description.get(side, ())}
    return {name: Tensor.from_json(told[name], affine[name]) for name in affine}
