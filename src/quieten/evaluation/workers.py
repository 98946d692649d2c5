"""Processes that do jobs and leave nothing behind, whichever way a run ends.

One worker is this process itself. More are spawned; they ignore Ctrl-C, which is for the process
that started them, and end with it even when it is killed.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Inline(Executor):
    """Does each job at once, in this process."""

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Returns a finished future; what an `Exception` ended holds it, others pass through."""
        future: Future[R] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def open_workers(count: int, clean_up: Callable[[], None]) -> Iterator[Executor]:
    """Gives an executor of `count` workers; an exception inside ends them at once.

    Args:
        count: 1 does the jobs in this process.
        clean_up: called in a process that is ended while it works; a function of a module.
    """
    if count == 1:
        yield Inline()
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=_prepare, initargs=(clean_up,)
    )
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare(clean_up: Callable[[], None]) -> None:
    """Runs first in every worker."""

    def leave(*_: object) -> None:
        clean_up()
        # not SystemExit: the pool would take it for the result of a job, and a message between
        # processes that it interrupts would be torn
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=_follow_parent, args=[leave], daemon=True).start()


def _follow_parent(leave: Callable[[], None]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        leave()
