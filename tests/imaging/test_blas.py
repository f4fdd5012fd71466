"""One thread for a product, and afterwards as many as before."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from napari_deconv.imaging.blas import product


def threads() -> list[int]:
    """Return the threads that the libraries behind numpy may use."""
    np.ones((2, 2)) @ np.ones((2, 2))
    return [found["num_threads"] for found in ThreadpoolController().select(user_api="blas").info()]


class Watching(np.ndarray):
    """An array that looks at the threads while it is multiplied."""

    seen: list[list[int]] = []  # noqa: RUF012 - what all of them saw

    def __matmul__(self, other: Any) -> Any:
        self.seen.append(threads())
        return np.asarray(self) @ other


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    before = threads()
    rng = np.random.default_rng(0)
    a, b = rng.random((30, 40)), rng.random((40, 20))
    np.testing.assert_allclose(product(a.view(Watching), b), a @ b)
    assert Watching.seen.pop() == [1] * len(before)
    assert threads() == before


def test_an_error_leaves_no_trace() -> None:
    before = threads()
    with pytest.raises(ValueError, match="matmul"):
        product(np.ones((2, 3)), np.ones((2, 3)))
    assert threads() == before


def test_threads_at_once_agree_to_the_last_digit_and_leave_no_trace() -> None:
    before = threads()
    rng = np.random.default_rng(1)
    a, b = (rng.random((300, 300)).astype(np.float32) for _ in range(2))
    expected, differing = product(a, b), []

    def work() -> None:
        for _ in range(20):
            if not np.array_equal(product(a, b), expected):
                differing.append(threading.get_ident())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert differing == []
    assert threads() == before
