"""What a trained network is, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_deconv.library import Entry, shown

if TYPE_CHECKING:
    from napari_deconv.learned.model_file import Card


def in_words(card: Card) -> str:
    """Return what a model is, in a sentence."""
    return shown(
        f"{card.name}: {card.steps} steps in {card.seconds / 60:.0f} min; for voxels of "
        f"{voxels_in_words(card)} and {photons_in_words(card)} photons in the brightest; "
        f"loss {card.validation:.3g}"
    )


def facts(entry: Entry) -> dict[str, str]:
    """Return all that is known of a model, as labels and texts."""
    file = {"Size": size_in_words(entry.size_bytes), "File": str(entry.path)}
    card = entry.card
    if card is None:
        return {"Problem": entry.problem, **file}
    light = card.light
    return {
        "Name": shown(card.name),
        "Network": network_in_words(card),
        "Sees": shown(", ".join(getattr(card.design, "channels", ()))) or "the image",
        "Voxel size": voxels_in_words(card),
        "Photons": f"{photons_in_words(card)} in the brightest voxels",
        "Background": f"{_range(light.background)} counts",
        "Camera": (
            f"{light.gain:.3g} counts a photon, offset {light.offset:.4g}, read noise "
            f"{light.read_noise:.3g} photons"
        ),
        "Structures": ", ".join(light.kinds),
        "Training": f"{card.steps} steps in {card.seconds / 60:.0f} min, seed {card.seed}",
        "Loss": loss_in_words(card),
        "License": shown(card.license) or "not said",
        "Cite": shown(card.citation) or "nothing said",
        **file,
    }


def network_in_words(card: Card) -> str:
    """Return the kind of a network."""
    kind = type(card.design).__name__
    return str(getattr(card.design, "title", "U-Net" if kind == "Design" else kind))


def loss_in_words(card: Card) -> str:
    """Return how well a network did, and where it started."""
    here = f"{card.validation:.3g} on the pairs that were left out"
    if card.is_as_before:
        return f"{here}, which no step made better: it is the network that it started from"
    if card.start_validation is not None:
        return f"{here}, {card.start_validation:.3g} where it started"
    return here


def voxels_in_words(card: Card) -> str:
    """Return the voxel size that a network is for."""
    steps = " x ".join(f"{step:.3g}" for step in card.spacing_um or ())
    return f"{steps} um" if steps else "unknown size"


def photons_in_words(card: Card) -> str:
    """Return the range of photons that a network is for."""
    return _range(card.light.photons)


def size_in_words(size_bytes: int) -> str:
    """Return a size on disk.

    Examples
    --------
    >>> size_in_words(48_200), size_in_words(3_120_000)
    ('48 kB', '3.1 MB')
    """
    return f"{size_bytes / 1e3:.0f} kB" if size_bytes < 1e6 else f"{size_bytes / 1e6:.1f} MB"


def _range(values: tuple[float, ...]) -> str:
    return " to ".join(f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in values)
