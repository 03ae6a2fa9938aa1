"""Work shared by several processes, its results in order: files that are read, images that are drawn."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from dpsims.errors import InputError

FEW = 4  # items; fewer are worked on here, since a process takes a second to start

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Those that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """``function(item)`` of all items, in their order, worked out by `jobs` processes a few items ahead.

    Args:
        function: of a module, or a `functools.partial` of one, with arguments and results that can be pickled.
        items: what it is called with.
        jobs: processes; 1 works here, when a result is asked for.

    Raises:
        InputError: a process was killed; also what `function` raises.
    """
    if jobs < 2 or len(items) < FEW:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads
    with ProcessPoolExecutor(min(jobs, len(items)), context, _start_worker) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in items:  # a few ahead, not all: the pairs of a large data set are many
                under_way.append(pool.submit(function, item))
                if len(under_way) > 3 * jobs:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                "a process that shares the work was ended from outside; is there memory for all? Give jobs=1 for one "
                "process (and in a script call this under `if __name__ == '__main__':`)"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C is the parent's to answer; and when the parent is killed nobody else would end this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
