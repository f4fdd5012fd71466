"""Small matrix products on one thread: the others would spin long after the product is done.

OpenBLAS keeps its threads busy for some time in case another product comes. Between products of
a millisecond that takes the processor from everything else, and makes a PSF several times slower
beside a working viewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

_lock = Lock()
_inside = 0
_usual: tuple[int, ...] = ()


@cache
def _libraries() -> tuple[Any, ...]:
    """Return the libraries behind numpy's products, each with its number of threads."""
    from threadpoolctl import ThreadpoolController

    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep the products of numpy to one thread each while this is entered.

    The setting is that of the whole process, but OpenBLAS lets only the thread that lowered it
    raise it again: so each one that leaves sets what was there before the first one entered.
    """
    global _inside, _usual
    with _lock:
        if _inside == 0:
            _usual = tuple(library.num_threads for library in _libraries())
        _inside += 1
        _set((1,) * len(_usual))
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            _set(_usual)


def _set(threads: tuple[int, ...]) -> None:
    for library, count in zip(_libraries(), threads, strict=True):
        library.set_num_threads(count)
