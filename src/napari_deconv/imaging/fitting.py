"""Measured Psf -> Optics: the parameters with which the model reproduces a PSF, with error bars.

`fit_optics` runs a fit; `fitting` is the same as a generator, for a progress bar and a Cancel
button. `fit_parameters.FREE` lists what may be fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .fit_errors import FittedParameter, errors_of, judged
from .fit_parameters import FREE, na_cap, names_of
from .fit_problem import LOOKED_AT, Problem, modelled, weights_of
from .optics import Optics
from .psf import Psf
from .value import require

Real = npt.NDArray[np.float64]

#: Fits that follow the best start, each with the weights that the one before gave.
REFINEMENTS = 2

#: Where a fit stops: changes of its cost, part of it, from the starts and in the refinements.
ROUGH, FINE = 1e-4, 1e-8

#: Least part of a PSF's highest value that is a point and not background.
LEAST_PEAK = 0.01

#: Starts end apart if a parameter differs by this part of its scale; such an end is a rival if
#: it is worse than the best by less than so many sigma.
APART, RIVAL = 0.5, 3.0

#: Correlation of neighbouring residuals, where the PSF is above a tenth of its peak, from
#: where they are more than noise.
MISFIT = 0.3


@dataclass(frozen=True, eq=False)
class OpticsFit:
    """The result of a fit.

    Parameters
    ----------
    optics : Optics
        The optics that the fit started from, with the fitted values.
    parameters : tuple of FittedParameter
        In the order in which they were asked for.
    focus_um : float
        By how much the middle plane is focused deeper than the brightest one.
    offset_um : tuple of float
        Where the point is, (y, x) from the middle pixel.
    amplitude, background : float
        The fit is `amplitude * model.samples + background`, as the measured PSF in units of
        that PSF's light.
    residual_rms : float
        Root mean square of what the fit leaves, part of the peak.
    correlation : ndarray of float64, (P, P)
        Of the errors of the P parameters; nan where one has no effect.
    model : Psf
        The fitted model on the voxels of the measured PSF, with its focus and offset.
    notes : tuple of str
        What the user should know.
    """

    optics: Optics
    parameters: tuple[FittedParameter, ...]
    focus_um: float
    offset_um: tuple[float, float]
    amplitude: float
    background: float
    residual_rms: float
    correlation: Real
    model: Psf
    notes: tuple[str, ...] = ()

    def describe(self) -> tuple[str, ...]:
        """Return the result in lines: the parameters, then what was fitted with them."""
        peak = self.amplitude * float(self.model.samples.max())
        y_nm, x_nm = (1000 * offset for offset in self.offset_um)
        return (
            *(parameter.describe() for parameter in self.parameters),
            f"focus {1000 * self.focus_um:+.0f} nm, point at y, x {y_nm:+.0f}, {x_nm:+.0f} nm",
            f"background {100 * self.background / peak:.2g} % of the peak",
            f"left over {100 * self.residual_rms:.2g} % of the peak (RMS)",
        )


@dataclass(frozen=True, eq=False)
class FitStep:
    """One tick of a running fit: steps done and in all, what happened, and in the last the fit."""

    done: int
    total: int
    note: str
    fit: OpticsFit | None = None


def fit_optics(psf: Psf, start: Optics, *, free: Sequence[str] = ("depth_um",)) -> OpticsFit:
    """Return the optics with which the model reproduces a measured PSF.

    Parameters
    ----------
    psf : Psf, (Z, Y, X) or (Y, X)
        The image of one point, with its voxel size. Need not be centred. Best as it was
        taken, `Psf(image, spacing_um)`: the background is fitted.
    start : Optics
        What is known. What is not free stays as it is here.
    free : sequence of str
        Of "na", "depth_um", "sample_index", "immersion_index", "emission_nm",
        "excitation_nm", "pinhole_au", "coverslip_um", "sheet_um", "zernike_3" to "zernike_65";
        at most 10. With Zernike terms that are not round (other than 4, 12, 24, 40, 60) a fit
        takes minutes instead of seconds.

    Returns
    -------
    OpticsFit
        Values with error bars, and which of them the PSF does not determine.

    Raises
    ------
    InputError
        If nothing or something unknown is free, if two that are free cannot be told apart, or
        if the PSF has no voxel size or does not depend on what is free.

    Notes
    -----
    Minimised is sum_i (d_i - a m_i(p, s) - b)^2 / (v_i + c), for the measured PSF d and the
    model m of `compute_psf` with parameters p and the point at s. Amplitude a and background
    b are solved for within each residual (variable projection; Golub and Pereyra 2003,
    doi:10.1088/0266-5611/19/2/201). v is the intensity that the fit before gave: the variance
    of photon noise grows with it. Weights from the data would prefer what is dark by chance.
    With c = 0 the fit ends at the most likely parameters for photon noise alone; c, 1 % of
    the peak, stands for other noise, and keeps the dim tails, where a model is wrong first,
    from ruling the fit.

    Errors are from H^-1 (sum_c g_c g_c^T) H^-1, H = J^T J, with the Jacobian J of the weighted
    residuals r by all unknowns, a and b too, and g_c the sum of J^T r over a cell of the size
    that the optics resolve (Liang and Zeger 1986, doi:10.1093/biomet/73.1.13): right for noise
    of any variance that is independent from cell to cell. Of what the model lacks, as the
    size of a bead, they know little: they are lower bounds.

    A parameter is not identifiable if the model hardly changes with it, if it ends at a bound,
    if its error is above `Freedom.scale` or half its range, or if its error and that of
    another free parameter correlate by more than 0.98. NA ends below the index of the sample:
    light beyond fades within a fraction of a wavelength from the coverslip.

    Examples
    --------
    >>> from napari_deconv import Grid, compute_psf
    >>> truth = Optics(na=0.8, emission_nm=520, immersion_index=1.0)
    >>> bead = compute_psf(truth, Grid(spacing_um=(0.6, 0.15, 0.15)), (9, 25, 25))
    >>> guess = Optics(na=0.7, emission_nm=520, immersion_index=1.0)
    >>> round(fit_optics(bead, guess, free=["na"]).optics.na, 3)
    0.8
    """
    *_, last = fitting(psf, start, free=free)
    assert last.fit is not None
    return last.fit


def fitting(psf: Psf, start: Optics, *, free: Sequence[str] = ("depth_um",)) -> Iterator[FitStep]:
    """Fit as `fit_optics` does, yield a `FitStep` after each start; to cancel, stop iterating."""
    problem = Problem.of(psf, start, names_of(free, psf, start))
    weights = problem.first_weights()
    _require_a_point(problem, weights)
    points = problem.starts(weights)
    total = 1 + len(points) + REFINEMENTS
    yield FitStep(1, total, f"{LOOKED_AT} points looked at")
    runs: list[Any] = []
    for point in points:
        runs.append(problem.minimised(point, weights, ROUGH))
        yield FitStep(1 + len(runs), total, f"start {len(runs)} of {len(points)}")
    lowest = min(run.cost for run in runs)
    # The user's own start comes first, and stays where the others are no better.
    best = next(run for run in runs if run.cost <= (1 + 1e-6) * lowest)
    rough = best
    for done in range(REFINEMENTS):
        weights = weights_of(problem.fitted(best.x, weights))
        best = problem.minimised(best.x, weights, FINE)
        if done < REFINEMENTS - 1:
            yield FitStep(total - REFINEMENTS + 1 + done, total, "weights refined")
    result = _result(problem, psf, best.x, weights)
    agreement = _agreement(problem, runs, rough, result.parameters)
    result = replace(result, notes=(*agreement, *result.notes))
    yield FitStep(total, total, "fitted", result)


def _require_a_point(problem: Problem, weights: Real) -> None:
    model = problem.model(np.clip(0, problem.low, problem.high))
    amplitude, _ = problem.levels(model, weights)
    require(
        amplitude * float(model.max()) > LEAST_PEAK,
        "The PSF shows no point above its background; check that the right image is used",
    )


def _result(problem: Problem, psf: Psf, x: Real, weights: Real) -> OpticsFit:
    """Return the fit at the unknowns `x`, in the units and on the voxels of `psf`."""
    model = problem.model(x)
    amplitude, background = problem.levels(model, weights)
    errors = errors_of(problem, x, weights)
    x = x.copy()
    x[: errors.sigma.size][np.isinf(errors.sigma)] = 0  # what does nothing stays as it was
    left = amplitude * model + background - problem.data
    rms = float(np.sqrt(np.square(left).mean()) / (amplitude * model.max()))
    optics, position = problem.optics(x), problem.position(x) + problem.middle(psf.shape)
    samples = modelled(optics, problem.grid, psf.shape, position)
    place_um = (0.0, *(position * problem.grid.spacing_um).tolist())[-3:]
    return OpticsFit(
        optics=optics,
        parameters=judged(problem, x, errors),
        focus_um=0.0 - place_um[0],
        offset_um=place_um[1:],
        amplitude=amplitude * problem.unit * float(samples.sum()),
        background=background * problem.unit,
        residual_rms=rms,
        correlation=errors.correlation,
        model=Psf(np.maximum(samples, 0), psf.spacing_um),  # the interpolation may dip below 0
        notes=tuple(_notes(problem, model > 0.1 * model.max(), left * weights)),
    )


def _agreement(
    problem: Problem, runs: list[Any], best: Any, parameters: tuple[FittedParameter, ...]
) -> tuple[str, ...]:
    """Return a sentence on how many starts ended at the best fit, and on one that rivals it.

    Parameters that are not identifiable end anywhere, and are told as such.
    """
    told = np.array([parameter.identifiable for parameter in parameters])
    if not told.any():
        return ()
    distances = [np.abs(run.x - best.x)[: len(told)][told].max() for run in runs]
    apart = [run for run, distance in zip(runs, distances, strict=True) if distance > APART]
    text = f"Fit: {len(runs) - len(apart)} of {len(runs)} starts end at the same values"
    # Sigma squared is twice the excess of the cost over the variance of one independent cell.
    cells = best.fun.size / float(np.prod(np.maximum(2 * problem.finest, 1)))
    for run in apart:
        if run.cost - best.cost < RIVAL**2 * best.cost / cells:
            ends = zip(problem.names, problem.values(run.x), told, strict=True)
            values = ", ".join(
                f"{FREE[name].label} {value:.4g}" for name, value, is_told in ends if is_told
            )
            return (f"{text}; {values} fits about as well",)
    return (text,)


def _notes(problem: Problem, core: npt.NDArray[np.bool_], left: Real) -> list[str]:
    """Return what the user should know, given the weighted residuals `left`."""
    notes = []
    cap = na_cap(problem.start)
    if "na" in problem.names and problem.start.na > cap:
        notes.append(
            f"Fit: the NA is looked for up to {cap:.4g}, below the index of the sample: light "
            "beyond it fades near the coverslip and does not tell it"
        )
    if (1, *problem.data.shape)[-3] == 1:
        notes.append("Fit: a single plane does not tell its focus; it is taken to be in focus")
    both = core[..., 1:] & core[..., :-1]
    one, other = left[..., 1:][both], left[..., :-1][both]
    size = math.sqrt(float(one @ one) * float(other @ other))
    alike = float(one @ other) / size if size > 0 else 0.0
    if alike > MISFIT:
        notes.append(
            f"Fit: what is left over is more than noise (neighbours correlate by {alike:.2f}): "
            "the optics described differ from those of the PSF, and the true errors are larger"
        )
    return notes
