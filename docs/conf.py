"""How Sphinx builds the pages: `make docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from sphinx.util import logging

from napari_deconv import __version__
from napari_deconv.cli import app as command

project = "napari-deconv"
author = "the napari-deconv developers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

default_role = "code"
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say the types, with shapes and units
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "napari-deconv"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"changelog": []}


#: Sections of `command_line.md` with options that several verbs share.
SHARED = ("The optics", "Heights", "The tip")


def check_command_line(_: Any) -> None:
    """Warn, and so fail the build, where `command_line.md` and the command differ.

    A verb has the options of its own section, and of the sections that it points to.
    """
    text = (Path(__file__).parent / "command_line.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.*)\n((?:.*\n(?!## ))*.*)", text, re.M))
    for name, verb in verbs(typer.main.get_command(command)):
        section = sections.get(f"`napari-deconv {name}`", "")
        for shared in SHARED:
            if f"(#{shared.lower().replace(' ', '-')})" in section:
                section += sections[shared]
        told = set(re.findall(r"--[a-z][a-z-]+", section))
        there = {o for p in verb.params for o in (*p.opts, *p.secondary_opts) if o[:2] == "--"}
        for option in sorted(told ^ (there - {"--help"})):
            logging.getLogger(__name__).warning(
                "command_line.md and `napari-deconv %s` differ in %s", name, option
            )


def verbs(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the verbs of a command and of its groups, with their whole names."""
    for name, verb in group.commands.items():
        if hasattr(verb, "commands"):
            yield from verbs(verb, f"{before}{name} ")
        else:
            yield f"{before}{name}", verb


def escape_bars(*event: Any) -> None:
    """Keep the bars of |x|^2 in docstrings from being read as substitutions."""
    lines = event[-1]
    lines[:] = [line if ">>>" in line else line.replace("|", r"\|") for line in lines]


def setup(app: Any) -> None:
    """Tie the check to the start of a build, and the bars to each docstring."""
    app.connect("builder-inited", check_command_line)
    app.connect("autodoc-process-docstring", escape_bars, priority=400)  # before numpydoc
