"""One thread for small products, and afterwards as many as before."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from napari_deconv.imaging.blas import one_blas_thread


def threads() -> set[int]:
    """Return the threads that the libraries behind numpy may use."""
    np.ones((2, 2)) @ np.ones((2, 2))
    return {found["num_threads"] for found in ThreadpoolController().select(user_api="blas").info()}


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    before = threads()
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == before


def test_an_error_inside_leaves_no_trace() -> None:
    before = threads()
    with pytest.raises(ValueError, match="inside"), one_blas_thread():
        raise ValueError("inside")
    assert threads() == before


@pytest.mark.parametrize("first_in_is_first_out", [True, False])
def test_threads_that_overlap_leave_no_trace(first_in_is_first_out: bool) -> None:
    before = threads()
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with one_blas_thread():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=stay)
    with one_blas_thread():
        other.start()
        assert entered.wait(10)
        assert threads() == {1}
        if not first_in_is_first_out:
            leave.set()
            other.join(10)
    leave.set()
    other.join(10)
    assert threads() == before
