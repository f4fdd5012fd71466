"""A block in pieces, where it is larger than memory.

`plan.plan_tiles` decides in whole numbers which tiles a block is restored in: what of it is
read, and what of that is kept. It knows no arrays, no PSF and no engine.
"""
