"""Which PSF a channel is restored with: an image, what was typed, or what the file knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_deconv.imaging.value import InputError

from .arguments import without_none
from .optics_options import WAVELENGTHS, optics_of
from .terminal import say

if TYPE_CHECKING:
    from napari_deconv.files.recipe import PsfSource, Recipe
    from napari_deconv.imaging.optics import Optics
    from napari_deconv.imaging.stack import Stack

T = TypeVar("T")


def psfs_of(
    stack: Stack,
    paths: Sequence[Path],
    image: dict[str, Any],
    optics: dict[str, Any],
    *,
    channels: tuple[int, ...],
    base: Recipe | None,
) -> dict[str, Any]:
    """Return the fields `psf` and `channel_psfs` of a recipe.

    Parameters
    ----------
    stack : Stack
        The image, with all its channels.
    paths : sequence of Path
        Images of a PSF: none, one for all, or one a channel.
    image : dict
        What was said of those images.
    optics : dict
        What was typed of the optics; a wavelength may be a tuple, one a channel.
    channels : tuple of int
        Which are restored, counted from 0; empty for all.
    base : Recipe, optional
        Where the PSF comes from if nothing was typed; then nothing is returned.
    """
    from napari_deconv.files.recipe import PsfFile

    count = stack.channel_count()
    chosen = stack.chosen("C", channels) or tuple(range(count))
    if paths and optics:
        raise InputError("Give either the PSF's image (--psf) or optics (--na ...), not both")
    if image and not paths:
        raise InputError("--psf-voxel-size and --psf-background belong to an image: give --psf too")
    if paths:
        files = [PsfFile.of(path, **image) for path in paths]
        return _fields(_by_channel(files, "--psf", chosen, count), count)
    if base is not None and not optics:
        _require_psfs(base, chosen)
        return {}
    return _fields(_described(stack, optics, chosen), count)


def _require_psfs(recipe: Recipe, chosen: tuple[int, ...]) -> None:
    """Raise where a recipe was not made for these channels, and so has no PSF of theirs."""
    beyond = set(chosen) - set(recipe.channels or chosen)
    if recipe.channel_psfs and beyond:
        restored = f"channel{'s' * (len(recipe.channels) > 1)} {_list(recipe.channels)}"
        raise InputError(
            f"The recipe is for {restored} and may have no PSF of channel {min(beyond)}; give "
            "--psf or the optics again, one a channel"
        )


def _by_channel(
    entries: Sequence[T], option: str, chosen: tuple[int, ...], count: int
) -> dict[int, T]:
    """Return one entry a channel: the same for all, or each its own."""
    if len(entries) == 1:
        return dict.fromkeys(chosen, entries[0])
    if len(entries) == count:
        return dict(enumerate(entries))
    if len(entries) == len(chosen):
        return dict(zip(chosen, entries, strict=True))
    channels = f"{count} channel{'s' * (count > 1)}"
    restored = f" and {len(chosen)} of them restored" if len(chosen) < count else ""
    raise InputError(
        f"{option} has {len(entries)} entries, but the image has {channels}{restored}; give one "
        "for all, or one a channel"
    )


def _fields(found: Mapping[int, PsfSource], count: int) -> dict[str, Any]:
    """Return the PSFs as fields of a recipe; a channel that is not restored has any of them."""
    first = found[min(found)]
    if all(psf == first for psf in found.values()):
        return {"psf": first, "channel_psfs": ()}
    return {
        "psf": first,
        "channel_psfs": tuple(found.get(channel, first) for channel in range(count)),
    }


def _described(stack: Stack, typed: dict[str, Any], chosen: tuple[int, ...]) -> dict[int, Optics]:
    """Return the optics of each channel, what was typed before what the file knows; say them."""
    lists = {
        name: _by_channel(typed[name], option, chosen, stack.channel_count())
        for name, option in WAVELENGTHS.items()
        if isinstance(typed.get(name), tuple)
    }
    every = set.intersection(*map(set, lists.values())) if lists else set()
    found: dict[int, Optics] = {}
    taken: dict[int, list[str]] = {}
    for channel in sorted(every | set(chosen)):
        known = _known(stack, channel)
        own = {name: entries[channel] for name, entries in lists.items()}
        what = f"A PSF of channel {channel}" if stack.channel_count() > 1 else "A PSF"
        found[channel] = optics_of(known | typed | own, what)
        taken[channel] = [name for name in known if name not in typed]
    _say_optics(found, taken, typed)
    return found


def _known(stack: Stack, channel: int) -> dict[str, Any]:
    """Return what the file knows of a channel's optics."""
    if not stack.channel_optics:
        return {}
    known = stack.channel_optics[channel].to_dict()
    return without_none(**{name: value for name, value in known.items() if name != "kind"})


def _say_optics(
    found: dict[int, Optics], taken: dict[int, list[str]], typed: dict[str, Any]
) -> None:
    """Say what the PSFs are computed from: one line where they are the same, else one each."""
    same = len(set(found.values())) == 1
    for channel, optics in list(found.items())[: 1 if same else None]:
        say(f"PSF         {'' if same else f'channel {channel}: '}{optics.describe()}")
        if taken[channel]:
            say(f"            from the file: {', '.join(taken[channel])}")
    everywhere = set.intersection(*(set(names) for names in taken.values()))
    assumed = {"immersion_index", "sample_index", "depth_um"} - set(typed) - everywhere
    if assumed:
        say(f"            assumed: {', '.join(sorted(assumed))}")


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
