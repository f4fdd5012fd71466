"""A file that is written whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_deconv.imaging.whole_file import replacing


def test_a_file_takes_its_place_when_it_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 251 + ".txt")  # the longest name there is
    target.write_text("old")
    with replacing(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
        assert (part.parent, part.name[0]) == (tmp_path, ".")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_of_a_file_that_fails_nothing_stays(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def half() -> None:
        with replacing(target) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_where_there_is_no_folder_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "a") as part:
        part.write_text("x")
