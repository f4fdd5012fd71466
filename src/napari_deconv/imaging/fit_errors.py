"""How well a fitted PSF determines the parameters: error bars, and where there are none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .fit_parameters import FREE, na_cap
from .fit_problem import Problem

Real = npt.NDArray[np.float64]

#: Change of the model over a parameter's scale, part of its peak, that is as good as none.
NO_EFFECT = 1e-4

#: Correlation of the errors of two parameters from where one must be known to tell the other.
INSEPARABLE = 0.98


@dataclass(frozen=True)
class FittedParameter:
    """A parameter after a fit.

    Parameters
    ----------
    name : str
        As in `fit_parameters.FREE`.
    value, error : float
        The error is one standard deviation, a lower bound; infinite where nothing is known.
    unit : str
        Of both; empty for a pure number.
    identifiable : bool
        Whether the PSF determines the value.
    reason : str
        Why it does not; empty where it does.
    """

    name: str
    value: float
    error: float
    unit: str
    identifiable: bool
    reason: str = ""

    def describe(self) -> str:
        """Return the parameter in one line.

        Examples
        --------
        >>> FittedParameter("depth_um", 3.21, 0.0734, "um", True).describe()
        'depth 3.210 +- 0.073 um'
        """
        label = FREE[self.name].label
        if not self.identifiable:
            return f"{label} not identifiable ({self.reason})"
        digits = max(0, 1 - math.floor(math.log10(self.error))) if self.error > 0 else 6
        text = f"{label} {self.value:.{digits}f} +- {self.error:.{digits}f} {self.unit}"
        return text.rstrip()


@dataclass(frozen=True, eq=False)
class Errors:
    """What is known of the P parameters' errors, each in its scale."""

    sigma: Real  # (P,), infinite without effect
    correlation: Real  # (P, P), nan without effect


def errors_of(problem: Problem, x: Real, weights: Real) -> Errors:
    """Return the errors at the best fit, from what it leaves; see `fit_optics`."""
    count = len(problem.names)
    model = problem.model(x)
    amplitude, _ = problem.levels(model, weights)
    gradient = amplitude * problem.gradient(x)
    effect = np.abs(gradient).max(axis=0) / np.abs(amplitude * model).max()
    columns = np.column_stack((gradient, model.ravel(), np.ones(model.size)))
    columns *= weights.ravel()[:, None]
    alive = np.concatenate((effect > NO_EFFECT, (True, True)))
    norms = np.linalg.norm(columns[:, alive], axis=0)
    jacobian = columns[:, alive] / norms
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    pull = jacobian * problem.residual(x, weights)[:, None]
    pull = _by_cells(pull.reshape(*model.shape, -1), 2 * problem.finest)
    covariance = inverse @ (pull.T @ pull) @ inverse / np.outer(norms, norms)
    full = np.full((alive.size, alive.size), math.nan)
    full[np.ix_(alive, alive)] = covariance
    full = full[:count, :count]
    sigma = np.sqrt(np.diag(full))
    return Errors(np.nan_to_num(sigma, nan=math.inf), full / np.outer(sigma, sigma))


def _by_cells(values: Real, cell: Real) -> Real:
    """Return the sums of `values`, (..., K), over cells of about so many voxels, (cells, K)."""
    for axis, size in enumerate(cell):
        edges = np.arange(0, values.shape[axis], max(1, round(float(size))))
        values = np.add.reduceat(values, edges, axis=axis)
    return values.reshape(-1, values.shape[-1])


def judged(problem: Problem, x: Real, errors: Errors) -> tuple[FittedParameter, ...]:
    """Return the parameters at `x` with their errors and whether they are identifiable."""
    parameters = []
    for index, (name, value) in enumerate(zip(problem.names, problem.values(x), strict=True)):
        error = float(errors.sigma[index]) * FREE[name].scale
        reason = _reason(problem, index, x, errors)
        parameters.append(
            FittedParameter(name, float(value), error, FREE[name].unit, not reason, reason)
        )
    return tuple(parameters)


def _reason(problem: Problem, index: int, x: Real, errors: Errors) -> str:
    """Return in a few words why a parameter is not identifiable; nothing where it is."""
    name = problem.names[index]
    freedom, sigma = FREE[name], float(errors.sigma[index])
    low, high = problem.low[index], problem.high[index]
    if math.isinf(sigma):
        return "the PSF hardly changes with it here"
    if min(x[index] - low, high - x[index]) < 1e-3 * (high - low):
        value = problem.values(x)[index]
        if name == "na" and value > 0.998 * na_cap(problem.start):
            return f"it ends at {value:.4g}, just below the index of the medium"
        if name == "depth_um" and value < 1:
            return "it ends at 0: a point at the coverslip, or planes in the opposite order"
        return f"it ends at the bound of its range, {value:.4g}"
    if sigma > min(1.0, (high - low) / 2):
        return f"error {sigma * freedom.scale:.2g} {freedom.unit}".rstrip()
    others = np.abs(np.nan_to_num(errors.correlation[index]))
    others[index] = 0
    partner = int(others.argmax())
    if others[partner] > INSEPARABLE:
        label = FREE[problem.names[partner]].label
        return f"not told from the {label}, correlation {errors.correlation[index, partner]:.3f}"
    return ""
