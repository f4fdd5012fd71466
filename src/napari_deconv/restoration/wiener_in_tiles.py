"""Wiener in tiles: what is near from the tile, what is slow across the planes from the whole.

Of a widefield PSF a weak regularization amplifies the slowest changes across a plane most. They
have no end, so that no halo holds them. The filter is a sum of two: the part for slow changes,
made of the whole image on a coarse lattice, and the rest, which has an end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.region import Region

from .blur import work_shape
from .continued import Continued
from .engine import Engine
from .fourier import Room, columns_of
from .lattice import Lattice
from .pieces import Cores, Float
from .restorer import SEAM_TOLERANCE, Observation, Restorer, Step
from .wiener import Wiener, invert, one_step, reach

#: Voxels of the finest wave that counts as slow, and most nodes that it may take: of images of
#: more than 0.1 and 1.9 billion voxels they would take more memory than a tile. Measured: with
#: waves of 4 voxels a halo of half a PSF keeps 1e-3; with 8, 1e-3 to 3e-3 (docs/volumes.md).
WAVES = ((4.0, 1 << 24), (8.0, 1 << 26))
#: Nodes for the finest wave: exact to 1e-4.
NODES = 1.5
#: Standard deviations of the share of slow changes, from none to those waves.
SIGMAS = 3.0
#: Part of the rest of the filter that may lie beyond the halo, per tolerance of the seam. Measured:
#: what is far away has either sign and mostly cancels.
TAIL = 20.0


@dataclass(frozen=True, eq=False)
class WienerInTiles:
    """Wiener with a settled regularization, for the tiles of one image.

    Parameters
    ----------
    regularization : float
        As of `Wiener`.
    whole_shape : tuple of int, (Z, Y, X)
        Of the image.
    finest_wave : float
        Changes over fewer voxels than that are not slow.
    slow : ndarray of float32, optional
        Its slow changes, restored, at the nodes of the lattice; see `knowing`. Without them an
        observation is restored as a whole.
    """

    regularization: float
    whole_shape: tuple[int, ...]
    finest_wave: float
    slow: Float | None = None

    @property
    def volumes(self) -> float:
        """Peak memory in float32 volumes of `work_shape`."""
        return self._whole.volumes

    @property
    def transforms(self) -> int:
        """Fourier transforms of a tile."""
        return self._whole.transforms

    @property
    def _whole(self) -> Wiener:
        return Wiener(self.regularization)

    def lattice(self, psf: Psf) -> Lattice:
        """Return where slow changes are known."""
        work = work_shape(self.whole_shape, psf.shape, "non-circulant")
        return Lattice(self.whole_shape, work, self.finest_wave / NODES)

    def bytes_of_slow(self, psf: Psf) -> int:
        """Return the bytes at the peak while the slow changes are restored."""
        lattice = self.lattice(psf)
        depth, (y, x) = lattice.work_shape[0], lattice.nodes
        # What was gathered, its spectrum, the transfer function, and what that is made of.
        return depth * (16 * y * x + 8 * psf.shape[1] * (psf.shape[2] + x))

    def halo(self, psf: Psf, tolerance: float = SEAM_TOLERANCE) -> tuple[int, ...]:
        """Return how far the filter reaches for what is not slow."""
        tail = min(TAIL * tolerance, 0.5)
        return reach(psf.samples, self.regularization, tail, self._rest)

    def settled(self, samples: Sequence[Observation], engine: Engine) -> WienerInTiles:
        """Return itself: nothing is left to decide."""
        return self

    def work_shape(
        self, image_shape: tuple[int, ...], psf_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the shape of the volumes that the method works on."""
        return self._whole.work_shape(image_shape, psf_shape)

    def knowing(self, gathered: Float, psf: Psf, background: float) -> WienerInTiles:
        """Return the method for tiles of the image that was gathered on the lattice.

        Parameters
        ----------
        gathered : ndarray of float32
            `Lattice.gather` of all its counts; it is changed.
        psf : Psf
            On the voxels of the image.
        background : float
            In counts.
        """
        lattice = self.lattice(psf)
        gathered -= np.float32(background) * lattice.ones()
        share = self._slowness(*lattice.frequencies()) / lattice.passed()
        otf = lattice.transfer_function(psf.samples)
        invert(otf, self.regularization)
        otf *= share
        theirs = columns_of(otf)

        def change(piece: np.ndarray, columns: slice) -> None:
            piece *= theirs[:, columns]

        shape = (lattice.work_shape[0], *lattice.nodes)
        room = Room(shape, Cores())
        slow = room.filter(Continued(gathered, shape), change, lattice.node_shape)
        return replace(self, slow=slow.copy())

    def steps(self, observation: Observation, engine: Engine) -> Iterator[Step]:
        """Yield one `Step` with the estimate."""
        if self.slow is None or observation.start is None:
            yield from self._whole.steps(observation, engine)
            return
        weight = self.regularization
        estimate = self._whole.filtered(observation, weight, engine, self._rest)
        region = Region(observation.start, observation.image.shape)
        self.lattice(observation.psf).spread(self.slow, region, estimate)
        yield one_step(weight, estimate)

    def _rest(self, shape: tuple[int, ...]) -> Float:
        """Return how much of each frequency (y, x) of a volume is not slow."""
        return 1 - self._slowness(np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2]))

    def _slowness(self, along_y: np.ndarray, along_x: np.ndarray) -> Float:
        """Return how slow waves count, 1 to 0, for frequencies in cycles per voxel, (y, x)."""
        sigma = 0.5 / self.finest_wave / SIGMAS
        y, x = (np.exp(-0.5 * (along / sigma) ** 2) for along in (along_y, along_x))
        return np.outer(y, x).astype(np.float32)


def for_tiles(
    method: Restorer, psf: Psf, whole_shape: tuple[int, ...], tolerance: float
) -> Restorer:
    """Return a method as tiles need it: Wiener with slow changes apart where they have no end."""
    if not isinstance(method, Wiener) or len(whole_shape) < 3:
        return method
    if not method.reaches_beyond_tiles(psf, tolerance):
        return method
    for wave, most in WAVES:
        made = WienerInTiles(float(method.regularization), whole_shape, wave)
        if math.prod(made.lattice(psf).node_shape) <= most:
            return made
    return method
