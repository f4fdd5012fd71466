"""The memory of this machine and of this process, in bytes."""

from __future__ import annotations

import sys
from functools import cache

#: Of the free memory a run takes no more: other programs need some, too.
PART_OF_FREE = 0.8
#: Arrays that the system gets back when they are freed; smaller ones come and go too often.
RETURNED_FROM_BYTES = 4 * 2**20

#: Options of glibc's mallopt, from its malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def total_memory_bytes() -> int:
    """Return the memory of this machine."""
    import psutil

    return int(psutil.virtual_memory().total)


def free_memory_bytes() -> int:
    """Return the memory that is free on this machine."""
    import psutil

    return int(psutil.virtual_memory().available)


def peak_memory_bytes() -> int:
    """Return the most memory that this process has used so far."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


@cache
def return_freed_memory() -> None:
    """Let arrays that are freed go back to the system at once, from now on.

    Otherwise glibc keeps arrays of up to 32 MB for the thread that has freed them, and the chunks
    that many threads read and write stay in memory beside the volumes. Other systems do not.
    """
    if sys.platform != "linux":
        return
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, RETURNED_FROM_BYTES)
        set_option(_M_TRIM_THRESHOLD, 2 * RETURNED_FROM_BYTES)
