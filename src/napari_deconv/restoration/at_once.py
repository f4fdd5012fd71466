"""Many small images at once: each of them on an engine of its own, and so on a core of its own.

All cores on one small image wait for each other more than they work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from .engine import Engine

Item = TypeVar("Item")
Result = TypeVar("Result")


def at_once(
    work: Callable[[Item, Engine], Result], items: Iterable[Item], engine: Engine
) -> Generator[Result, None, None]:
    """Yield what `work` returns for each item, in their order.

    Parameters
    ----------
    work : callable
        Of an item and an engine, which is nobody else's meanwhile.
    items : iterable
        As many as results are asked for are taken, and one more for each engine.
    engine : Engine
        What it gives for work side by side is worked on; see `Engine.side_by_side`.
    """
    engines = engine.side_by_side()
    free: SimpleQueue[Engine] = SimpleQueue()
    for one in engines:
        free.put(one)

    def done(item: Item) -> Result:
        mine = free.get()
        try:
            return work(item, mine)
        finally:
            free.put(mine)

    if len(engines) == 1:
        yield from map(done, items)
        return
    pool = ThreadPoolExecutor(len(engines), thread_name_prefix="at-once")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(done, item))
            if len(waiting) > len(engines):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
