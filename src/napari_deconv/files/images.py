"""The images of a folder, a pattern or a list of names, sorted as people count."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from napari_deconv.imaging.value import require

from .names import TIFF_SUFFIXES, WORK_SUFFIX, ZARR_SUFFIXES
from .reading import files_of

Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def images_of(
    sources: Sources, *, pattern: str = "*", recursive: bool = False
) -> tuple[tuple[Path, Path], ...]:
    """Return images, each with the folder or the beginning of the pattern that it was found in.

    Parameters
    ----------
    sources : str or path, or several
        A folder, a file, or a pattern such as ``day1/*.tif`` or ``**/*.ome.tif``.
    pattern : str
        What the names of the images in a folder must match.
    recursive : bool
        Whether to look into the folders inside a folder.

    Returns
    -------
    tuple of (Path, Path)
        Each image once, cell 2 before cell 10; one in several files by the first of them. In
        folders and patterns they end in .tif, .tiff or .zarr; hidden and unfinished ones do not
        count.

    Raises
    ------
    InputError
        If one of the sources has no image.
    """
    several = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    found: dict[Path, tuple[Path, Path]] = {}
    for source in several:
        path = Path(source).expanduser()
        here = list(_found(path, pattern, recursive))
        require(bool(here), _nothing_in(path, pattern, recursive))
        for image, folder in here:
            found.setdefault(_place(image), (image, folder))
    return tuple(_once(sorted(found.values(), key=lambda one: _natural(one[0]))))


def _found(path: Path, pattern: str, recursive: bool) -> Iterator[tuple[Path, Path]]:
    # A name that is there is meant as it is, whatever brackets it holds.
    if path.is_dir() and not path.name.lower().endswith(ZARR_SUFFIXES):
        inside = _walked(path) if recursive else path.iterdir()
        yield from ((p, path) for p in inside if _is_image(p) and p.match(pattern))
    elif path.exists():
        yield path, path.parent
    else:
        folder = _plain_part(path)
        for image in folder.glob(str(path.relative_to(folder))):
            if _is_image(image) and not _is_within(image.relative_to(folder)):
                yield image, folder


def _walked(folder: Path) -> Iterator[Path]:
    """Yield all that lies inside, through linked folders too, each folder once."""
    top = folder.resolve()
    seen = {top}
    for parent, folders, files in os.walk(folder, followlinks=True):
        yield from (Path(parent, name) for name in (*folders, *files))
        visible = [name for name in sorted(folders) if not _is_within(Path(name, "image"))]
        folders[:] = [name for name in visible if _is_new(Path(parent, name), top, seen)]


def _is_new(folder: Path, top: Path, seen: set[Path]) -> bool:
    """Return whether a folder was not seen yet, and note it; a link into `top` is a second name."""
    target = folder.resolve()
    if target in seen or (folder.is_symlink() and target.is_relative_to(top)):
        return False
    seen.add(target)
    return True


def _place(image: Path) -> Path:
    """Return an image by one name, however its folder is called: relative, or by a link."""
    return image.parent.resolve() / image.name


def _once(found: Iterable[tuple[Path, Path]]) -> Iterator[tuple[Path, Path]]:
    """Yield images without those files that belong to one that came before."""
    taken: set[Path] = set()
    for image, folder in found:
        if _place(image) not in taken:
            taken.update(map(_place, files_of(image) if image.is_file() else ()))
            yield image, folder


def _plain_part(pattern: Path) -> Path:
    """Return the folder that a pattern begins with; one that is there may have brackets."""
    parent = pattern.parent
    while re.search(r"[*?[]", str(parent)) and not parent.is_dir():
        parent = parent.parent
    return parent


def _is_image(path: Path) -> bool:
    name = path.name.lower()
    if name.startswith(".") or name.endswith(WORK_SUFFIX):
        return False
    return name.endswith(ZARR_SUFFIXES if path.is_dir() else TIFF_SUFFIXES)


def _is_within(path: Path) -> bool:
    """Return whether a path leads through a hidden folder or an OME-Zarr."""
    return any(p.startswith(".") or p.lower().endswith(ZARR_SUFFIXES) for p in path.parts[:-1])


def _nothing_in(path: Path, pattern: str, recursive: bool) -> str:
    """Return the sentence for a source without an image."""
    if not path.is_dir():
        return f"No image matches {path}; check the folder and the spelling"
    named = "" if pattern == "*" else f" whose name matches {pattern}"
    deeper = "" if recursive else ", or look into the folders inside it too"
    return (
        f"No image{named} lies in the folder {path} (they end in .tif, .tiff or .ome.zarr); "
        f"choose another folder{deeper}"
    )


def _natural(path: Path) -> list[list[str | int]]:
    """Return what sorts paths as people count; numbers stand at the odd places."""
    return [
        [int(part) if place % 2 else part for place, part in enumerate(parts)]
        for parts in (re.split(r"([0-9]+)", name.casefold()) for name in path.parts)
    ]
