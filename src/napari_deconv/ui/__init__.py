"""The viewer's door: napari, Qt and magicgui live here and nowhere else."""
