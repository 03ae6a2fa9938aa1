"""Work that must not keep anybody waiting: of many requests only the newest counts."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Wish = TypeVar("Wish")
Result = TypeVar("Result")


class LatestWins(Generic[Wish, Result]):
    """Does one piece of work at a time in a thread; of what is asked meanwhile, only the last is done next.

    Where no event loop runs, as in tests and scripts, the work is done at once and `ask` returns after it.

    Args:
        work: called in the thread; what it raises is what `idle` raises.
        done: called with its result, in the thread that asks, where widgets may be changed.
    """

    def __init__(self, work: Callable[[Wish], Result], done: Callable[[Result], None]) -> None:
        self._work, self._done = work, done
        self._waiting: list[Wish] = []  # none or one
        self._task: asyncio.Task | None = None
        self.calls = 0  # pieces of work that were begun

    def ask(self, wish: Wish) -> None:
        """Soon, or at once, ``done(work(wish))``, unless another wish comes before it is begun."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.calls += 1
            self._done(self._work(wish))
            return
        self._waiting = [wish]
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())

    async def idle(self) -> None:
        """Waits until nothing is left to do."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._waiting:
            wish = self._waiting.pop()
            self.calls += 1
            self._done(await asyncio.to_thread(self._work, wish))
