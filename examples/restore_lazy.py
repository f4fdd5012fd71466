"""Restore a stack lazily with dask: on threads here, or on the workers of a cluster.

python examples/restore_lazy.py [tcp://scheduler:8786]
"""

import sys

import dask.array as da

from napari_deconv import Grid, Optics, RichardsonLucy, compute_psf, restore_lazy
from napari_deconv.files.samples import simulated_stack

if __name__ == "__main__":  # worker processes of a cluster import this file
    stack, _ = simulated_stack((24, 256, 256))  # a widefield stack of 0.25 x 0.1 x 0.1 um
    image = da.from_array(stack.data, chunks=(24, 64, 64))  # or da.from_zarr("large.ome.zarr/0")
    optics = Optics(na=1.2, emission_nm=520, immersion_index=1.333)
    psf = compute_psf(optics, Grid(spacing_um=(0.25, 0.1, 0.1)))

    method = RichardsonLucy(10, acceleration="none")
    restored = restore_lazy(image, psf, method=method, background="auto", memory=300_000_000)
    print("nothing is restored yet:", restored)

    if len(sys.argv) > 1:
        from distributed import Client

        Client(sys.argv[1])  # from now on dask computes on its workers
    corner = restored[:, :32, :32].compute()  # its tile alone, after one look at the whole
    print("a corner of", corner.shape, "with a mean of", round(float(corner.mean()), 2))
