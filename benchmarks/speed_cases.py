"""What is restored to measure speed, and how near to the truth an estimate comes.

Simulated stacks with their truth: a microscope, sparse structures or dense ones, so many photons in
the brightest voxel over a background of 10. One real stack without: the bundled light-sheet cell,
its photons dealt out to two halves. And a file of one's own, a .npz with the keys image, psf,
background and spacing_um, and truth where there is one; else its photons are dealt out as well.

PSNR is taken after the best scale and offset, 4 planes and 16 rows and columns cut off at each side
(an eighth of a side at the most), its peak the 99.9th percentile of the truth in there. FSC is
the period at which the correlation with the truth, or of the two halves, first falls below 1/7;
the finest period that the voxels hold where it never does. The I-divergence is the mean of
y log(y/f) - y + f over the image, with f the blurred estimate plus the background. Light beyond
the image is part of an estimate where a contender tells it, and none where it does not. Without a
truth, the divergence of each blurred estimate from the counts of the other half tells more than
the FSC: what a method makes of all data alike is in both halves, and correlates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.files.samples import real_psf, real_stack
from napari_deconv.imaging.camera import Camera, camera_of
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.quality import fitted
from napari_deconv.imaging.shell_correlation import fourier_shell_correlation
from napari_deconv.imaging.thinning import thinned
from napari_deconv.learned.pairs import Light, simulated_pair
from napari_deconv.psf_sources import prepare_psf
from napari_deconv.restoration.blur import transfer_function, work_shape
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation
from napari_deconv.surveying import background_of

Float = npt.NDArray[np.floating[Any]]

SHAPE, PLANE, SPACING, SIDE = (32, 128, 128), (512, 512), (0.2, 0.1, 0.1), 31
BACKGROUND, READ_NOISE = 10.0, 1.0
OIL = Optics(na=1.4, emission_nm=520, immersion_index=1.515)
MICROSCOPES = {
    "widefield": OIL,
    "confocal": replace(OIL, modality="confocal", excitation_nm=488),
    "lightsheet": Optics(
        "light-sheet",
        na=1.0,
        emission_nm=520,
        excitation_nm=488,
        immersion_index=1.333,
        sheet_um=2.0,
    ),
    "plane": OIL,
}
DENSITIES = {"sparse": ("dots", "filaments"), "dense": ("shells", "balls", "textures")}
PHOTONS = (15, 200, 2000)
REAL = "real"
#: Each microscope, density and number of photons at least once, in the time that anyone has.
USUAL = (
    "widefield-sparse-200",
    "widefield-dense-2000",
    "confocal-dense-15",
    "lightsheet-sparse-200",
    "plane-dense-200",
    REAL,
)
EVERY = (*(f"{m}-{d}-{p}" for m in MICROSCOPES for d in DENSITIES for p in PHOTONS), REAL)
LARGE = ("widefield-dense-200-64x256x256", "widefield-sparse-200-128x512x512")
#: Of the real stack, rows and columns through the middle of the cell.
MIDDLE = (slice(None), slice(42, 138), slice(55, 151))

#: Planes, rows and columns cut off at each side before a PSNR is taken; part of a side at the most.
CUT, MOST_CUT = (4, 16, 16), 8
#: A blurred estimate is nowhere smaller than this part of the brightest count.
LEAST = 1e-7


@dataclass(frozen=True, eq=False)
class Case:
    """Counts to be restored, and what is known about them.

    Parameters
    ----------
    name : str
    image, psf : ndarray, (Z, Y, X) or (Y, X)
    background : float
        In counts.
    spacing_um : tuple of float
    truth : ndarray, optional
        In counts, of the shape of the image.
    other : ndarray, optional
        Without a truth: other counts of the same object, as bright as the image.
    """

    name: str
    image: Float
    psf: Float
    background: float
    spacing_um: tuple[float, ...]
    truth: Float | None = None
    other: Float | None = None

    def observations(self) -> list[Observation]:
        """Return what is restored: the image, or both halves of the photons."""
        images = [self.image] if self.other is None else [self.image, self.other]
        psf = Psf(self.psf, self.spacing_um)
        return [observe(np.maximum(image, 0), psf, self.background) for image in images]

    @property
    def work_shape(self) -> tuple[int, ...]:
        """Shape of the volumes that Richardson-Lucy works on, with non-circulant edges."""
        return work_shape(self.image.shape, self.psf.shape, "non-circulant")

    def save(self, path: Path) -> None:
        """Write what `opened` reads."""
        told = {name: value for name, value in vars(self).items() if value is not None}
        np.savez(path, **told)


def opened(path: Path) -> Case:
    """Return the case that a file holds; the name is its own, or that of the file."""
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    images = ("image", "psf", "truth", "other")
    case = Case(
        name=str(held.get("name", path.stem)),
        background=float(held["background"]),
        spacing_um=tuple(float(step) for step in held["spacing_um"]),
        **{name: held[name].astype(np.float32) for name in images if name in held},
    )
    return case if case.truth is not None or case.other is not None else dealt(case)


def case_of(name: str) -> Case:
    """Return a case of `EVERY` or `LARGE`."""
    return real() if name == REAL else simulated(name)


def simulated(name: str) -> Case:
    """Return the case "microscope-density-photons" or "microscope-density-photons-shape"."""
    microscope, density, photons, *size = name.split("-")
    shape = tuple(map(int, size[0].split("x"))) if size else SHAPE
    if microscope == "plane":
        shape = PLANE
    spacing = SPACING[-len(shape) :]
    psf = compute_psf(MICROSCOPES[microscope], Grid(spacing_um=spacing), (SIDE,) * len(shape))
    peak = float(photons)
    light = Light((peak, peak), (BACKGROUND, BACKGROUND), READ_NOISE, DENSITIES[density])
    places = list(MICROSCOPES).index(microscope), list(DENSITIES).index(density)
    random = np.random.default_rng((2718, *places, int(photons), *shape))
    pair = simulated_pair(shape, psf, light, random, photons=peak)
    return Case(name, pair.counts, psf.samples, pair.background, spacing, pair.truth)


def real() -> Case:
    """Return the middle of the bundled light-sheet stack, dealt out to two, with its bead."""
    stack = real_stack()
    assert stack.grid is not None
    psf = prepare_psf(real_psf(), stack)
    counts = np.asarray(stack.data, np.float32)[MIDDLE]
    level = background_of(stack, next(stack.blocks()), "auto")
    return dealt(Case(REAL, counts, psf.samples, level, stack.grid.spacing_um))


def dealt(case: Case) -> Case:
    """Return a case with half of the photons as its image, and the other half as the other one."""
    camera = camera_of(case.image) or Camera()
    offset = min(max(camera.offset, 0.0), case.background)
    camera = replace(camera, offset=offset)
    first, second = thinned(case.image, camera, random=np.random.default_rng(0))
    return replace(case, image=first, other=second, background=(offset + case.background) / 2)


# -- how near to the truth --------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """How good an estimate is; None where that is not known."""

    psnr: float | None = None
    divergence: float | None = None
    held_out_divergence: float | None = None
    fsc_um: float | None = None


class Judge:
    """Scores the estimates of a case; those of the first half are kept for those of the second."""

    def __init__(self, case: Case) -> None:
        self._case, self._counts = case, [o.image for o in case.observations()]
        self._psf = case.observations()[0].psf.samples
        self._otfs: dict[tuple[int, ...], Any] = {}
        self._kept: list[tuple[Float, float, float]] = []

    def scores(self, part: int, index: int, estimate: Float, *, shifted: bool) -> Scores:
        """Return the scores of an estimate.

        Parameters
        ----------
        part : int
            0, and 1 for the second half of the photons.
        index : int
            Which point of the curve it is, from 0.
        estimate : ndarray
            Of the shape of the image, or with the padding behind it.
        shifted : bool
            Whether the best of all shifts by up to a voxel counts.
        """
        case, counts = self._case, self._counts[part]
        if shifted:
            estimate = aligned(estimate, counts if case.truth is None else case.truth)
        seen = estimate[tuple(slice(n) for n in counts.shape)]
        model = self._model(estimate)
        divergence = divergence_of(model, counts)
        if case.truth is not None:
            psnr, period = psnr_of(seen, case.truth), self._period(seen, case.truth)
            return Scores(psnr, divergence, fsc_um=period)
        held_out = divergence_of(model, self._counts[1 - part])
        if part == 0:
            self._kept.append((seen, divergence, held_out))
            return Scores(None, divergence, held_out)
        first, before, held_before = self._kept[index]
        return Scores(
            divergence=(before + divergence) / 2,
            held_out_divergence=(held_before + held_out) / 2,
            fsc_um=self._period(first, seen),
        )

    def _model(self, estimate: Float) -> Float:
        """Return the counts that an estimate lets expect."""
        from scipy.fft import irfftn, rfftn

        image_shape = self._case.image.shape
        # What comes with its padding is judged on that.
        shape = self._case.work_shape if estimate.shape == image_shape else estimate.shape
        if shape not in self._otfs:
            self._otfs[shape] = transfer_function(self._psf, shape)
        spectrum = rfftn(np.asarray(estimate, np.float32), s=shape, workers=-1)
        blurred = irfftn(spectrum * self._otfs[shape], s=shape, workers=-1)
        seen: Float = blurred[tuple(slice(n) for n in image_shape)]
        return seen + np.float32(self._case.background)

    def _period(self, first: Float, second: Float) -> float:
        found = fourier_shell_correlation(first, second, self._case.spacing_um)
        return found.resolution_um or 1 / found.frequencies_per_um[-1]


def divergence_of(model: Float, counts: Float) -> float:
    """Return the I-divergence per voxel between counts and those that are expected."""
    from scipy.special import kl_div

    least = np.float32(LEAST * float(counts.max()))
    terms = kl_div(counts.astype(np.float64), np.maximum(model, least))
    return float(terms.mean(dtype=np.float64))


def inside(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box that a PSNR is taken in."""
    cuts = [min(most, n // MOST_CUT) for most, n in zip(CUT[-len(shape) :], shape, strict=True)]
    return tuple(slice(cut, n - cut) for cut, n in zip(cuts, shape, strict=True))


def psnr_of(estimate: Float, truth: Float) -> float:
    """Return the PSNR in dB."""
    box = inside(truth.shape)
    peak = float(np.percentile(truth[box], 99.9))
    error = fitted(estimate[box], truth[box]) - truth[box]
    return float(20 * np.log10(peak / np.sqrt(np.square(error).mean(dtype=np.float64))))


def aligned(estimate: Float, reference: Float) -> Float:
    """Return an estimate moved by up to a voxel along each axis, so that it is most alike."""
    from scipy.ndimage import shift

    box = tuple(slice(max(s.start, 1), min(s.stop, n - 1)) for s, n in _sides(reference.shape))
    wanted = np.asarray(reference[box], np.float64).ravel()
    wanted -= wanted.mean()

    def likeness(move: tuple[int, ...]) -> float:
        there = tuple(slice(s.start - m, s.stop - m) for s, m in zip(box, move, strict=True))
        found = np.asarray(estimate[there], np.float64).ravel()
        spread = float(found.std())
        return float(wanted @ found) / spread if spread > 0 else 0.0

    moves = [tuple(int(i) - 1 for i in place) for place in np.ndindex((3,) * estimate.ndim)]
    # First of all none: it is taken where others are no better.
    best = max([(0,) * estimate.ndim, *moves], key=likeness)
    return estimate if not any(best) else shift(estimate, best, order=0, mode="nearest")


def _sides(shape: tuple[int, ...]) -> list[tuple[slice, int]]:
    return list(zip(inside(shape), shape, strict=True))
