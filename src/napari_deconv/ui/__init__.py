"""The viewer's door: napari and Qt live here and nowhere else."""
