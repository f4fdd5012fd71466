"""What the instrument did: grids, optics, point spread functions. numpy and scipy only."""
