"""The user's preferences, as napari keeps them for this plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preferences:
    """Engine to use, and the part of the free memory that a run may take."""

    engine: str = "auto"
    memory_fraction: float = 0.8


def read_preferences() -> Preferences:
    """Return the preferences; the defaults where this napari keeps none for plugins."""
    try:
        from napari.settings import get_plugin_settings

        settings: Any = get_plugin_settings("napari-deconv")
        chosen = settings.computing
        return Preferences(str(chosen.engine), float(chosen.memory_fraction))
    # An older napari has no such function, and a test runs without the manifest.
    except (ImportError, KeyError, AttributeError):
        return Preferences()
