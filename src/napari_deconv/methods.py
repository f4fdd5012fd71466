"""From a recipe's method to what restores: a trained network is loaded, the others are it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_deconv.files.recipe import Method, TrainedModel, digest
from napari_deconv.imaging.value import require
from napari_deconv.learned.requiring import require_torch
from napari_deconv.restoration.blur import edges_of_a_part
from napari_deconv.restoration.restorer import Restorer
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

#: Regularization by which the reach of one that is still to be found is planned.
USUAL_WEIGHT = 1e-3


def restorer_of(method: Method) -> Restorer:
    """Return what restores.

    Raises
    ------
    InputError
        If the file of a trained network is not there, is another than the recipe knows, or torch
        is not installed.
    """
    if not isinstance(method, TrainedModel):
        return method
    require_torch()
    from napari_deconv.learned.network import Learned

    made = Learned(method.path, method.shows, method.mirrored, method.cautious)
    require(
        method.sha256 in (None, digest(Path(method.path))),
        f"The model {Path(method.path).name} has changed since the recipe was written; take the "
        "model of that time, or write the recipe anew",
    )
    return made


def about_settled(method: Restorer) -> Restorer:
    """Return a method as it will about be when the data have decided."""
    if isinstance(method, Wiener):
        weight = USUAL_WEIGHT if method.regularization == "auto" else method.regularization
        return replace(method, regularization=weight, edges=edges_of_a_part(method.edges))
    if isinstance(method, RichardsonLucy):
        return replace(method.as_if_settled(), edges=edges_of_a_part(method.edges))
    from napari_deconv.learned.network import Learned

    if not isinstance(method, Learned):
        return method
    usual = method.leans_on
    if usual is not None:
        usual = replace(usual, automatic_stop=False, edges=edges_of_a_part(usual.edges))
    return replace(method, bright=1.0, usual=usual)
