"""The same work on several models, in as many processes as there are cores: TensorFlow trains a small model on one core."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_when_told) as pool:
        try:
            with _interrupts_held():
                waiting = [pool.submit(work, item) for item in items]
            for done in as_completed(waiting):
                done.result()
        except BrokenProcessPool as error:
            raise ModelError(
                "a process ended without a word, often because memory is short; "
                "close other programs, or choose fewer models with MODELS=, and run again"
            ) from error
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the block is over. A process that is started meanwhile never gets it: this one ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_when_told() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
