"""Matrix products on one thread: the same to the last digit, and at rest when they are done.

OpenBLAS keeps its threads busy for some time in case another product comes. Between products of
a millisecond that takes the processor from everything else, and makes a PSF several times slower
beside a working viewer. And their number would show in the last digits of the result.
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

_lock = Lock()


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def product(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `a @ b`, computed by one thread."""
    # The number of threads is the process's: one after the other may change it.
    with _lock, _controller().limit(limits=1, user_api="blas"):
        return np.asarray(a @ b)
