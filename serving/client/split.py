"""A weighted split of traffic between version labels, with a sticky key.

Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005): each label
draws a number from the hash of label and key, stretched by its weight, and the highest wins. The same key therefore
always gets the same label, in every process, and raising one label's weight only moves keys to it.
"""

from __future__ import annotations

import math
import random
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Split:
    """``Split({"stable": 90, "canary": 10})``: the weights count relative to each other. Thread-safe."""

    def __init__(self, weights: Mapping[str, float], *, salt: str = "") -> None:
        """Another ``salt`` shares the same keys out anew. Raises ValueError for weights that share nothing."""
        if not weights:
            raise ValueError('no labels to split between; give weights such as {"stable": 90, "canary": 10}')
        for label, weight in weights.items():
            if isinstance(weight, bool) or not math.isfinite(weight) or weight < 0:
                raise ValueError(f"the weight of {label!r} is {weight}; give a finite number, 0 or more")
        self._weights = {label: weight for label, weight in weights.items() if weight > 0}
        if not self._weights:
            raise ValueError(f"every weight of {', '.join(weights)} is 0; give at least one label more than that")
        self._salt = salt

    def choose(self, key: str | bytes | int | None = None) -> str:
        """The label for a key (a user, a session); a random one by weight for None."""
        if key is None:
            return random.choices(list(self._weights), list(self._weights.values()))[0]
        data = key if isinstance(key, bytes) else str(key).encode()
        return max(self._weights, key=lambda label: self._drawn(label, data))

    def _drawn(self, label: str, key: bytes) -> float:
        """``weight / −ln(u)`` with u in (0, 1): the chance to be the highest is the label's share of all weights."""
        digest = blake2b(f"{self._salt}\0{label}\0".encode() + key, digest_size=8).digest()
        u = (int.from_bytes(digest, "big") + 0.5) / 2**64
        # A digest of all ones rounds to u = 1.
        return self._weights[label] / -math.log(min(u, 1 - 2**-53))
