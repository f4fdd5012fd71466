"""Images on disk: read with what the file knows of them, written with how they were made.

`reading.read_stack` opens TIFF, OME-TIFF and OME-Zarr; `export.write_stack` writes OME-TIFF
and OME-Zarr, whole or not at all; `tile_store.TileStore` is the OME-Zarr that is filled tile by
tile and goes on where a run was ended; `reading.read_provenance` gives back the recipe that an
exported file carries; `recipe` is the plain value that repeats a result.
"""
