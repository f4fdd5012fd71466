"""A tip from an image alone, by one function for those who script."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import require

from .height_map import checked_heights

Double = npt.NDArray[np.float64]

Method = Literal["blind", "gradient"]


def estimate_tip(
    image: npt.ArrayLike,
    shape: tuple[int, int] = (15, 15),
    *,
    method: Method = "blind",
    threshold_nm: float | None = None,
    noise_nm: float | None = None,
    symmetric: bool = False,
    seed: int = 0,
) -> Double:
    """Estimate the tip that took an image, or the frames of a movie.

    Parameters
    ----------
    image : array, (Y, X) or (T, Y, X)
        Levelled heights in nm.
    shape : tuple of int, (Y, X)
        Pixels of the tip.
    method : {"blind", "gradient"}
        Villarrubia's blind estimate (1997, doi 10.6028/jres.102.030), an upper bound where the
        threshold is no smaller than the noise, or the differentiable one (Matsunaga et al. 2023,
        doi 10.1038/s41598-022-27057-2).
    threshold_nm : float, optional
        "blind": heights that noise may explain; found by a sweep where not given.
    noise_nm : float, optional
        Standard deviation of the noise; estimated from the image where not given.
    symmetric : bool
        "gradient": whether the tip is the same when turned by half a turn.
    seed : int
        "gradient": of all that is random.

    Returns
    -------
    ndarray of float64, (Y, X)
        The tip, reflected through its apex: 0 at index n//2, all else at or below 0.

    Raises
    ------
    InputError
        If the image is flat, none of finite heights, or smaller than the tip.

    Examples
    --------
    >>> from napari_deconv.afm.morphology import dilate
    >>> spike = np.zeros((15, 15)); spike[7, 7] = 50
    >>> tip = [[-3, -1, -4], [-1, 0, -2], [-5, -1, -6]]
    >>> estimate_tip(dilate(spike, tip), (3, 3)).tolist()
    [[-3.0, -1.0, -4.0], [-1.0, 0.0, -2.0], [-5.0, -1.0, -6.0]]
    """
    from . import blind_tip, gradient_tip
    from .preparing import noise_nm as noise_of

    heights = checked_heights(image)
    noise = noise_of(heights) if noise_nm is None else noise_nm
    # The estimates know pixels alone: their size is only handed on.
    pixel = (1.0, 1.0)
    if method == "blind":
        wanted = blind_tip.BlindTip(shape, threshold_nm=threshold_nm)
        return blind_tip.blind_tip(heights, pixel, wanted, noise).heights_nm
    require(method == "gradient", f"A tip is estimated by 'blind' or 'gradient', not {method!r}")
    asked = gradient_tip.GradientTip(shape, symmetric=symmetric, seed=seed)
    return gradient_tip.gradient_tip(heights, pixel, asked, noise).heights_nm
