"""An AFM image taken as a convolution with the tip: an approximation, and named so.

A tip does not blur a surface, it touches it: the image is a dilation (`morphology`). Blur of the
detector or of the feedback is a convolution, though, and Richardson-Lucy and Wiener undo one.
Here they are given the shape of the tip as if it were a PSF, to compare; what they make of an
image that is a dilation is no surface that could have made it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError, require, require_number
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Restorer

from .height_map import checked_heights
from .tips import Tip

Double = npt.NDArray[np.float64]

APPROXIMATION = (
    "Approximation: the tip is taken as a PSF, though it touches the surface and does not blur it"
)
#: Iterations of each of the two, surface and tip, before it is the other's turn.
TURN = 5
#: Smallest denominator, as a part of the highest height: the rounding of a float32 transform.
ROUNDING = 1e-7


def tip_as_psf(tip: Tip, depth_nm: float) -> Psf:
    """Return a tip as a PSF, which is an approximation.

    Parameters
    ----------
    tip : Tip
    depth_nm : float
        How far up from its apex the tip counts: the range of heights of the image.

    Returns
    -------
    Psf
        K(d) = max(T(d) + depth, 0) over its sum. T in I(x) = max_d [S(x - d) + T(d)] is at the
        same d as K in I(x) = sum_d S(x - d) K(d): nothing is turned round.

    Raises
    ------
    InputError
        If the depth is not positive.
    """
    require_number("The depth of the tip in nm", depth_nm, above=0)
    kernel = np.maximum(tip.heights_nm + depth_nm, 0)
    spacing = (tip.pixel_nm[0] * 1e-3, tip.pixel_nm[1] * 1e-3)
    return Psf(kernel, spacing, (APPROXIMATION,))


def restored_as_convolution(
    heights: npt.ArrayLike,
    tip: Tip,
    method: Restorer,
    engine: Engine,
    depth_nm: float | None = None,
) -> Double:
    """Return heights restored as if the tip had blurred them, which is an approximation.

    Parameters
    ----------
    heights : array, (Y, X) or (T, Y, X)
        In nm.
    tip : Tip
        On the pixels of the image.
    method : RichardsonLucy or Wiener
    engine : Engine
        Where it is computed.
    depth_nm : float, optional
        As in `tip_as_psf`; the range of heights of each frame if not given.

    Returns
    -------
    ndarray of float64
        Of the shape of the heights, in nm, with the same mean in each frame.

    Raises
    ------
    InputError
        If the heights are none, or the depth is not positive.

    Notes
    -----
    Heights above the lowest of a frame are taken as counts. The estimate is scaled to the sum of
    those: beyond the edges there is nothing that could have been carried there.
    """
    image = checked_heights(heights)
    frames = image if image.ndim == 3 else image[None]
    restored = [_restored(frame, tip, method, engine, depth_nm) for frame in frames]
    return np.stack(restored).reshape(image.shape)


def blind_as_convolution(
    heights: npt.ArrayLike, tip_shape: tuple[int, int], iterations: int, engine: Engine
) -> tuple[Double, Psf]:
    """Return a surface and a tip that an image is the convolution of, both guessed from it.

    It is here to show that this does not work: of the many pairs of which an image is the
    convolution it finds one that has little to do with surface and tip.

    Parameters
    ----------
    heights : array, (Y, X)
        In nm.
    tip_shape : tuple of int, (Y, X)
        Pixels of the tip, at most as many as the image has.
    iterations : int
        How often it is the tip's turn and then the surface's.
    engine : Engine

    Returns
    -------
    surface : ndarray of float64, (Y, X)
        In nm, of the same mean as the image.
    tip : Psf
        Of `tip_shape`.

    Raises
    ------
    InputError
        If the heights are no image, or flat, or the tip does not fit into it.

    Notes
    -----
    Richardson-Lucy by turns for the one and the other (Fish et al. 1995, doi
    10.1364/JOSAA.12.000058), from the image and a cone as wide as the tip may be. The image is
    taken to repeat itself beyond its edges.
    """
    image = checked_heights(heights)
    require(image.ndim == 2, "Blind restoration takes one frame, (Y, X)")
    require(
        len(tip_shape) == 2
        and all(1 <= n <= m for n, m in zip(tip_shape, image.shape, strict=True)),
        f"The tip must be of 1 x 1 to {image.shape[0]} x {image.shape[1]} pixels, not {tip_shape}",
    )
    require(iterations >= 1, f"At least one iteration is needed, not {iterations}")
    lowest = float(image.min())
    counts = (image - lowest).astype(np.float32)
    require(bool(counts.any()), "The image is flat: there is no tip to be seen in it")
    kernel = _cone(tip_shape)
    surface = counts
    for _ in range(iterations):
        whole = _richardson_lucy(counts, _at_origin(kernel, image.shape), surface, engine)
        kernel = _cut(whole, tip_shape)
        kernel /= kernel.sum()
        surface = _richardson_lucy(counts, surface, _at_origin(kernel, image.shape), engine)
    return _as_heights(surface, image, lowest), Psf(kernel, None, (APPROXIMATION,))


def _restored(
    frame: Double, tip: Tip, method: Restorer, engine: Engine, depth_nm: float | None
) -> Double:
    lowest, span = float(frame.min()), float(np.ptp(frame))
    if span == 0:
        return frame.copy()
    psf = tip_as_psf(tip, span if depth_nm is None else depth_nm)
    estimate = None
    for step in method.steps(observe(frame - lowest, psf), engine):
        estimate = step.estimate
    if estimate is None:
        raise InputError("The method ended without a result; use Richardson-Lucy or Wiener")
    return _as_heights(estimate, frame, lowest)


def _as_heights(estimate: npt.NDArray[Any], image: Double, lowest: float) -> Double:
    """Return an estimate scaled to the sum of the image above its lowest height, as heights."""
    above = np.asarray(estimate, np.float64)
    total = float(above.sum())
    if total > 0:
        above = above * (float((image - lowest).sum()) / total)
    return above + lowest


def _richardson_lucy(
    counts: npt.NDArray[np.float32],
    start: npt.NDArray[np.float32],
    other: npt.NDArray[np.float32],
    engine: Engine,
) -> npt.NDArray[np.float32]:
    """Return the one of which, with the other, the counts are the circular convolution."""
    from scipy.fft import rfft2

    shape = counts.shape
    total = float(other.sum())
    blur = engine.filter(rfft2(other / total).astype(np.complex64), shape)
    measured, x = engine.hold(counts), engine.push(start, shape)
    scale, least = total, max(ROUNDING * float(counts.max()), 1e-30)
    for _ in range(TURN):
        ratio = engine.evaluate(
            "y / fmax(s * f, least)", y=measured, f=blur.forward(x), s=scale, least=least
        )
        x = engine.evaluate("fmax(p * c, 0.0f)", p=x, c=blur.adjoint(ratio))
    found: npt.NDArray[np.float32] = engine.pull(x, shape)
    return found


def _cone(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    y, x = ((np.arange(n) - n // 2) / (n // 2 + 1) for n in shape)
    cone = np.maximum(1 - np.hypot(y[:, None], x[None, :]), 1e-3)
    return np.asarray(cone / cone.sum(), np.float32)


def _at_origin(kernel: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a kernel on the pixels of an image, its middle at index 0."""
    whole = np.zeros(shape, np.float32)
    whole[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.roll(whole, [-(n // 2) for n in kernel.shape], (0, 1))


def _cut(whole: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return the kernel back from the pixels of an image."""
    turned = np.roll(whole, [n // 2 for n in shape], (0, 1))
    return turned[: shape[0], : shape[1]].copy()
