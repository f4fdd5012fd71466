"""The colour of what stands out."""

from __future__ import annotations

#: Amber that can be told from a light and a dark background. What napari's theme highlights
#: with is in its style sheet only: the palette that painters see has grey in its place.
AMBER = "#d08000"
