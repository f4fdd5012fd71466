"""Atomic force microscopy: heights, tips, and the surface that a tip touched.

Heights are nanometres in float64. A tip T is an array whose apex, value 0, lies at index n//2 of
each axis; all else is at or below 0, and -inf is where there is no tip. It is the tip reflected
through its apex, as Villarrubia (1997) has it: an image is I(x) = max_d [S(x - d) + T(d)].

- `height_map`, `tips`: heights and tips as values, and the shapes that tips have
- `morphology` (its loops in `loops`): erosion, dilation, certainty
- `preparing`, `levelling`: level, rows, scars, noise
- `blind_tip` (`blind_loops`): the tip from the image alone, as an upper bound
- `gradient_tip` (`gradient_descent`, `gradient_choice`, `gradient_loops`): the same by descent
- `tip_fit`, `broadening`: a radius and an angle of a tip; the width that it adds
- `features` (`objects`): widths and areas of objects
- `as_convolution`: what deconvolution would make of heights, for comparison
- `simulated`: surfaces and images with a known truth
"""
