"""Archives of bioimage.io, read with distrust: a zip file, or a folder, that others have written.

Nothing of them is unpacked under a name of its own, nothing is executed, and what is read has a
size that was looked at first and, where the description says it, the right checksum.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from napari_deconv.imaging.value import InputError, require
from napari_deconv.imaging.whole_file import replacing

#: Names of the description, the usual one first.
DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
#: Most bytes of an unpacked archive and of its description, most files, and how many times smaller
#: the archive may be.
MOST_BYTES, MOST_TEXT, MOST_FILES, MOST_PACKED = 4 * 2**30, 2**20, 1000, 200
#: Below so many unpacked bytes it does not matter how well they were packed.
HARMLESS = 100 * 2**20
#: Version of the descriptions that are read.
VERSION = "0.5"

Tree = dict[str, Any]


@dataclass(frozen=True)
class Archive:
    """A zip file or a folder with the description of a model in it.

    Parameters
    ----------
    path : Path
    zipped : zipfile.ZipFile or None
        None of a folder.
    """

    path: Path
    zipped: zipfile.ZipFile | None

    @property
    def name(self) -> str:
        """For people."""
        return self.path.name

    def has(self, member: str) -> bool:
        """Return whether there is such a file."""
        if self.zipped is not None:
            return member in self.zipped.namelist()
        return self._inside(member).is_file()

    def read(self, member: str, most: int = MOST_BYTES) -> bytes:
        """Return the content of a file.

        Raises
        ------
        InputError
            If there is none of that name, or it is too large or damaged.
        """
        require(
            _is_plain(member) and self.has(member),
            f"{self.name} lacks the file {member[:100]!r} that its description names; "
            "download the whole archive of the model",
        )
        try:
            if self.zipped is not None:
                _require_small(self.zipped.getinfo(member).file_size, most, member, self.name)
                return self.zipped.read(member)
            path = self._inside(member)
            _require_small(path.stat().st_size, most, member, self.name)
            return path.read_bytes()
        # An encrypted or oddly packed file is the last two.
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise InputError(
                f"{member} in {self.name} cannot be read ({str(error)[:120]}); download it again"
            ) from error

    def checked(self, entry: Any) -> bytes:
        """Return the content of a file that the description names, {source, sha256} or a name.

        Raises
        ------
        InputError
            If the name is none, or the content is not the one that the description is of.
        """
        source = entry.get("source") if isinstance(entry, dict) else entry
        require(
            isinstance(source, str) and bool(source),
            f"The description in {self.name} does not say which of its files is meant",
        )
        require(
            "://" not in str(source),
            f"{self.name} has {source} elsewhere; download the whole archive of the model",
        )
        content = self.read(str(PurePosixPath(str(source))))
        wanted = entry.get("sha256") if isinstance(entry, dict) else None
        require(
            wanted is None or hashlib.sha256(content).hexdigest() == str(wanted).lower(),
            f"{source} in {self.name} is not the file that its description is of (its SHA-256 is "
            "another one); download it again",
        )
        return content

    def description(self) -> Tree:
        """Return the description, of a model in a version that is known.

        Raises
        ------
        InputError
            If there is none, or it cannot be read.
        """
        found = [name for name in DESCRIPTIONS if self.has(name)]
        require(
            bool(found),
            f"{self.name} has no {DESCRIPTIONS[0]} in it: it is no model of bioimage.io; choose "
            "the archive as it was downloaded",
        )
        tree = loaded(self.read(found[0], MOST_TEXT), f"{found[0]} in {self.name}")
        require(
            tree.get("type") == "model",
            f"{self.name} describes no model but a {str(tree.get('type'))[:40]!r}",
        )
        version = str(tree.get("format_version"))
        require(
            re.fullmatch(re.escape(VERSION) + r"(\.\d+)*", version) is not None,
            f"{self.name} is of version {version[:20]} of the format of bioimage.io, and {VERSION} "
            "is read; `bioimageio update-format` of the package bioimageio.core brings it there",
        )
        return tree

    def _inside(self, member: str) -> Path:
        """Return a file of the folder; one that a link puts elsewhere is none."""
        path = self.path / member
        is_inside = path.resolve().is_relative_to(self.path.resolve())
        return path if is_inside else self.path / member / "outside"


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """Open an archive.

    Raises
    ------
    InputError
        If it is not there, is damaged, names files outside of itself, or would unpack to more
        than there is room for.
    """
    found = Path(path).expanduser()
    require(found.exists(), f"There is no file {found}; check the spelling")
    if found.is_dir():
        yield Archive(found, None)
        return
    try:
        zipped = zipfile.ZipFile(found)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{found.name} is no zip file, or is damaged ({str(error)[:120]}); download it again"
        ) from error
    with zipped:
        _require_harmless(zipped, found)
        yield Archive(found, zipped)


def _require_harmless(zipped: zipfile.ZipFile, path: Path) -> None:
    members = zipped.infolist()
    for member in members:
        require(
            _is_plain(member.filename.removesuffix("/")),
            f"{path.name} names a file outside of itself ({member.filename[:60]!r}) and was not "
            "unpacked; take the model from a place that you trust",
        )
    unpacked, packed = sum(member.file_size for member in members), path.stat().st_size
    is_bomb = unpacked > HARMLESS and unpacked > MOST_PACKED * packed
    require(
        unpacked <= MOST_BYTES and len(members) <= MOST_FILES and not is_bomb,
        f"{path.name} would unpack to {unpacked / 1e9:.1f} GB in {len(members)} files from "
        f"{packed / 1e6:.1f} MB, as no model does, and was not unpacked",
    )


def _require_small(size: int, most: int, member: str, archive: str) -> None:
    require(
        size <= most,
        f"{member} in {archive} has {size / 1e6:.0f} MB, and more than {most / 1e6:.0f} MB are "
        "not read",
    )


def _is_plain(member: str) -> bool:
    """Return whether a name stays below the folder that it is in, on every system."""
    parts = PurePosixPath(member).parts
    return (
        bool(parts)
        and not member.startswith("/")
        and ".." not in parts
        and not any(letter in member for letter in "\\:\0")
    )


def loaded(text: bytes, name: str) -> Tree:
    """Return a YAML text as plain values.

    Raises
    ------
    InputError
        If it is none, or PyYAML is missing.
    """
    yaml = yaml_module()
    try:
        tree = yaml.safe_load(text)
    # Texts that are no UTF-8, numbers that are none, and texts that are nested without end.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name} is no YAML ({str(error).splitlines()[0][:120]})") from error
    require(isinstance(tree, dict), f"{name} holds no description")
    return dict(tree)


def yaml_module() -> Any:
    """Return PyYAML; `InputError` where it is missing."""
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        raise InputError(
            "Models of bioimage.io need the package PyYAML, which is not installed; run: "
            'pip install "napari-deconv[models]"'
        ) from error


def write_archive(
    path: str | os.PathLike[str], files: dict[str, bytes], *, overwrite: bool
) -> Path:
    """Write a zip file, whole or not at all; the same files give the same bytes.

    Raises
    ------
    InputError
        If the file is there already, or cannot be written.
    """
    target = Path(path).expanduser()
    require(
        target.name.lower().endswith(".zip"),
        f"{target.name} does not end in .zip, as a model of bioimage.io does",
    )
    require(
        overwrite or not target.exists(),
        f"{target} exists already; choose another name, or allow it to be replaced",
    )
    try:
        with replacing(target) as part, zipfile.ZipFile(part, "w") as zipped:
            for name, content in files.items():
                zipped.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}); choose another place"
        ) from error
    return target
