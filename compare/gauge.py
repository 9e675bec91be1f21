"""The parity matrix's gauge: a row's error beside its tolerance, as a small drawing within the cell."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from compare.terminal import worst

ERROR_DECADES = (-9, 0)  # the gauge's scale; an error of 0 stands at its left end


def gauge(row: dict[str, Any], *, width: int = 92) -> Markup:
    """A row's error on a logarithmic scale from 1e-9 to 1, with a tick at its tolerance."""
    error, tolerance = worst(row, "would_pass_at"), worst(row, "tolerance")
    if error is None:
        return Markup("")
    low, high = ERROR_DECADES

    def x(value: float) -> float:
        exponent = math.log10(value) if value > 0 else low
        return 3 + (width - 6) * (min(max(exponent, low), high) - low) / (high - low)

    tick = f'<line class="limit" x1="{x(tolerance):.1f}" x2="{x(tolerance):.1f}" y1="1" y2="9"/>' if tolerance else ""
    return Markup(
        f'<svg class="gauge" viewBox="0 0 {width} 10" width="{width}" height="10" aria-hidden="true">'
        f'<line class="scale" x1="3" x2="{width - 3}" y1="5" y2="5"/>{tick}'
        f'<circle class="dot" cx="{x(error):.1f}" cy="5" r="2.6"/></svg>'
    )
