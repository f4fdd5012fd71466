"""A table of what became of many files: CSV for a spreadsheet, or JSON."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from napari_deconv.imaging.value import Plain, require

from .whole import write_whole


def write_rows(path: str | os.PathLike[str], columns: Sequence[str], rows: Sequence[Plain]) -> None:
    """Write a table, as JSON where the name ends so, whole or not at all.

    Parameters
    ----------
    path : str or path
        File to write, .csv (comma, decimal point, UTF-8) or .json. An earlier table of the same
        columns is replaced.
    columns : sequence of str
        Their names, in order.
    rows : sequence of dict
        One entry a column.

    Raises
    ------
    InputError
        If another file is there, or it cannot be written.
    """
    target = Path(path).expanduser()
    as_json = target.suffix.lower() == ".json"
    require(
        as_json or target.suffix.lower() == ".csv",
        f"The summary {target.name} must end in .csv or .json",
    )
    require(
        not target.exists() or _is_ours(target, columns),
        f"{target.name} exists already and is no earlier summary; choose another name",
    )
    ordered = [{name: row[name] for name in columns} for row in rows]
    if as_json:
        text = json.dumps(ordered, indent=1, ensure_ascii=False) + "\n"
    else:
        lines = io.StringIO()
        table = csv.writer(lines)
        table.writerow(columns)
        table.writerows([_cell(value) for value in row.values()] for row in ordered)
        text = lines.getvalue()
    # A name of a file that is not UTF-8 has no letters; it is told by its bytes.
    write_whole(target, text.encode(errors="backslashreplace"), "The summary")


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return "" if value is None else str(value)


def _is_ours(path: Path, columns: Sequence[str]) -> bool:
    """Return whether a file is an earlier table of these columns, or holds nothing."""
    try:
        text = path.read_text(encoding="utf-8")
        if not text or path.suffix.lower() == ".csv":
            return not text or text.splitlines()[0] == ",".join(columns)
        rows = json.loads(text)
    except (OSError, ValueError):
        return False
    return isinstance(rows, list) and all(
        isinstance(row, dict) and list(row) == list(columns) for row in rows
    )
