"""The same work on several models, in as many processes as there are cores: TensorFlow trains a small model on one core."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


def side_by_side(work: Callable[[T], object], items: Sequence[T]) -> None:
    """``work(item)`` for every item, the first ones first; a single one in this process.

    ``work`` is a function of a module. The first error ends the others and is raised; so does Ctrl-C.
    TensorFlow, where ``work`` loads it, computes on one thread: small models take a fifth more CPU time on two, and their
    numbers do not depend on how many cores a machine has.
    """
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    if len(items) == 1:
        work(items[0])
        return
    context = multiprocessing.get_context("spawn")
    workers = min(len(items), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_the_parent) as pool:
        try:
            for done in as_completed([pool.submit(work, item) for item in items]):
                done.result()
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
