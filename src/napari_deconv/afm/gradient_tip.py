"""The tip from the images alone, by gradient descent through the opening, and where to stop.

A tip T that made the images I opens them to themselves, so T is sought that minimises the mean of
(open(I, T) - I)^2 (Matsunaga et al. 2023, Sci. Rep. 13, doi 10.1038/s41598-022-27057-2), by AdamW
(Loshchilov & Hutter 2019, arXiv 1711.05101), from several starts. Three things are added here.

- Noise makes every tip look too sharp: an opening cuts off what noise sticks out, and a sharper
  tip cuts off less. How much is known once the noise is: the same tip is made to image its own
  reconstruction, noise of the same sigma is added, and its gradient is subtracted. At the true
  tip both are the same on average, so it stands still there.
- A tip of no width opens all to itself. So tips are compared by what is left on frames that were
  not trained on, above what the noise alone would leave; of all where this is within a standard
  error, the one is taken that takes most off the images (Morozov's discrepancy principle, 1966,
  with the rule of one standard error of Breiman et al. 1984). Those beyond are not thrown away,
  as all might be, but pay for it, several times more than they can win.
- The reconstruction for the made-up noise comes from frames smoothed by total variation (Rudin,
  Osher & Fatemi 1992, doi 10.1016/0167-2789(92)90242-F), down to a residual of that sigma.

The first and the last are in `gradient_descent`, the second in `gradient_choice`. Inside, heights
are parts of the height range of the images, so nothing depends on the unit.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import require, require_number
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.stepping import ended

from .gradient_choice import Finder
from .gradient_descent import data_of, eroded_frames, on_its_top, smoothed
from .gradient_settings import GradientTip
from .height_map import checked_heights
from .tips import Tip

__all__ = ["GradientTip", "estimated", "gradient_tip", "smoothed"]

Double = npt.NDArray[np.float64]

#: A tip that takes less off the images, as a part of their range and of the noise, is no tip.
LEAST_TAKEN, LEAST_OF_NOISE = 0.01, 0.1


def gradient_tip(
    heights: npt.ArrayLike,
    pixel_nm: tuple[float, float],
    settings: GradientTip | None = None,
    noise_nm: float = 0.0,
) -> Tip:
    """Return the tip that images tell of, estimated by gradient descent.

    Parameters
    ----------
    heights : array, (T, Y, X) or (Y, X)
        In nm, levelled, all made by one tip.
    pixel_nm : tuple of float, (y, x)
    settings : GradientTip, optional
    noise_nm : float
        Standard deviation of the noise of the heights.

    Returns
    -------
    Tip
        Of the shape that is set, its apex in the middle. What touched nowhere is not known.

    Raises
    ------
    InputError
        If the images are flat, smaller than the tip, too small to leave a part out, or tell of
        nothing but a tip of no width.
    """
    return ended(estimated(heights, pixel_nm, settings, noise_nm))


def estimated(
    heights: npt.ArrayLike,
    pixel_nm: tuple[float, float],
    settings: GradientTip | None = None,
    noise_nm: float = 0.0,
) -> Generator[Step, None, Tip]:
    """Estimate the tip in steps; see `gradient_tip`. The generator's value is the tip.

    A `Step` tells, as `divergence`, the mean of (open(I, T) - I)^2 in nm^2 so far.
    """
    settings = settings or GradientTip()
    frames = checked_heights(heights)
    frames = frames if frames.ndim == 3 else frames[None]
    require_number("The noise in nm", noise_nm, least=0)
    for axis, step in zip("yx", pixel_nm, strict=True):
        require_number(f"The {axis} pixel size in nm", step, above=0)
    span = _span(frames, settings.shape, noise_nm)
    data = data_of(frames, settings.shape, span, noise_nm)
    spacing = (pixel_nm[0] / min(pixel_nm), pixel_nm[1] / min(pixel_nm))
    finder = Finder(data, settings, spacing, span**2)
    with ThreadPoolExecutor(_cores(), thread_name_prefix="tip") as pool:
        tip = yield from finder.found(pool)
    if not settings.symmetric:
        tip = on_its_top(tip, data.noise)
    taken = float(np.sqrt(((data.smooth - eroded_frames(data.smooth, tip)) ** 2).mean()))
    require(
        taken > max(LEAST_TAKEN, LEAST_OF_NOISE * data.noise),
        "The images tell of nothing but a tip of no width, which takes nothing off them: no tip "
        "that is wider fits; check the noise, or take images with more and steeper objects",
    )
    return Tip(tip * span, pixel_nm)


def _span(frames: Double, shape: tuple[int, int], noise_nm: float) -> float:
    """Return the height range in nm, once there is one and the tip fits."""
    sides = frames.shape[1:]
    tip, image = (" x ".join(map(str, n)) for n in (shape, sides))
    require(
        all(n <= m for n, m in zip(shape, sides, strict=True)),
        f"The tip, {tip} pixels, is larger than the image, {image}; choose a smaller tip",
    )
    span = float(np.ptp(frames, axis=(1, 2)).max())
    require(span > 0, "The image is flat, so it tells nothing of the tip; take one with objects")
    require(
        span > 3 * noise_nm,
        f"The heights span {span:g} nm, no more than noise of {noise_nm:g} nm does: they tell "
        "nothing of the tip; take images with higher objects, or correct the noise",
    )
    require(
        len(frames) > 1 or any(m >= 3 * n for n, m in zip(shape, sides, strict=True)),
        f"One image of {image} pixels is too small to leave a part of it out for a check of a tip "
        f"of {tip}: one side must be 3 times the tip's; give more frames or choose a smaller tip",
    )
    return span


def _cores() -> int:
    return max(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 1)
