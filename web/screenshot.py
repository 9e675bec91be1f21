"""A picture of the running page: ``python -m web.screenshot [--address URL] [--out docs/page.png]``.

Waits until every panel has its answers, or every chart is drawn; fails when the page logs an error. Needs the
deployment and a browser.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compare.browser import Scheme, acquire, first_line, release
from deploy.ports import port
from models.artifacts import REPOSITORY, write_whole
from models.errors import TargetError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWERED = "() => document.querySelector('.panel, .plots') && !document.querySelector('[aria-busy=true]')"
WAIT_MS = 60_000


def take(address: str, out: Path, *, width: int, height: int | None, scheme: Scheme, scale: float) -> None:
    """Raises TargetError when the page does not answer or logs an error."""
    from playwright.sync_api import Error

    browser = acquire(take)
    errors: list[str] = []
    try:
        with browser.context(width=width, height=height or 900, scheme=scheme, scale=scale) as context:
            page = context.new_page()
            page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: errors.append(str(e)))
            page.goto(address)
            page.wait_for_function(ANSWERED, timeout=WAIT_MS)
            with write_whole(out) as temporary:
                temporary.write_bytes(page.screenshot(full_page=height is None))
    except Error as error:
        seen = f"; the page logs: {errors[0]}" if errors else ""
        raise TargetError(f"no picture of {address}: {first_line(error)}{seen}; run `make status`") from error
    finally:
        release(take)
    if errors:
        raise TargetError(f"the page at {address} logs errors, the first: {errors[0]}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m web.screenshot", description=__doc__.splitlines()[0])
    parser.add_argument("--address", default=f"http://127.0.0.1:{port('WEB_PORT')}", help="the running page")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "page.png", help="a PNG file")
    parser.add_argument("--width", type=int, default=1400, help="CSS pixels")
    parser.add_argument("--height", type=int, help="CSS pixels; the whole page if not given")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels per CSS pixel")
    options = parser.parse_args(argv)
    size = {"width": options.width, "height": options.height, "scheme": options.scheme, "scale": options.scale}
    take(options.address, options.out, **size)
    print(f"picture: {options.out}")


if __name__ == "__main__":
    run_cli(main)
