"""Work that must not keep anybody waiting: of many requests only the newest counts."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from dpsims.errors import InputError

Wish = TypeVar("Wish")
Result = TypeVar("Result")


class LatestWins(Generic[Wish, Result]):
    """Does one piece of work at a time in a thread; of what is asked meanwhile, only the last is done next.

    Where no event loop runs, as in tests and scripts, the work is done at once and `ask` returns after it.

    Args:
        work: called in the thread.
        done: called with its result, in the thread that asks, where widgets may be changed.
        failed: called, there too, with what `work` or `done` has raised, so that nothing ends without a word.
    """

    def __init__(
        self, work: Callable[[Wish], Result], done: Callable[[Result], None], failed: Callable[[Exception], None]
    ) -> None:
        self._work, self._done, self._failed = work, done, failed
        self._waiting: list[Wish] = []  # none or one
        self._task: asyncio.Task | None = None

    def ask(self, wish: Wish) -> None:
        """Soon, or at once, ``done(work(wish))``, unless another wish comes before it is begun."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.now(wish)
            return
        self._waiting = [wish]
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())

    def now(self, wish: Wish) -> None:
        """``done(work(wish))`` before it returns, whatever is under way."""
        try:
            self._done(self._work(wish))
        except Exception as error:
            self._failed(error)

    async def idle(self) -> None:
        """Waits until nothing is left to do."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._waiting:
            wish = self._waiting.pop()
            try:
                self._done(await asyncio.to_thread(self._work, wish))
            except Exception as error:
                self._failed(error)


def in_words(error: Exception) -> str:
    """What an error says, for people: the message alone where it is one of ours, which are written for them."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
