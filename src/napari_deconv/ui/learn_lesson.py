"""What the panels of the dock "Learn" describe, as a lesson."""

from __future__ import annotations

from dataclasses import replace

from napari.viewer import Viewer

from napari_deconv.imaging.value import require

from . import layers, regions, runs
from .block_panel import BlockPanel
from .learn_pairs import recorded_stacks
from .learn_panel import LearnPanel
from .learn_runs import Lesson
from .method_panel import Settings
from .preferences import read_preferences
from .psf_panel import PsfLayer, PsfPanel


class LessonSource:
    """Reads the lesson that three panels describe, from the layers that they name."""

    def __init__(self, viewer: Viewer, image: BlockPanel, psf: PsfPanel, panel: LearnPanel) -> None:
        self.viewer, self.image, self.psf, self.panel = viewer, image, psf, panel

    def lesson(self) -> Lesson:
        """Return what is described, without the layers that are learned from.

        That is all that a network which is there needs to restore.

        Raises
        ------
        InputError
            If it is not usable.
        """
        choice = self.image.value()
        require(choice.name in self.viewer.layers, "Open or choose an image layer first")
        layer = self.viewer.layers[choice.name]
        stack = layers.stack_of_layer(layer, choice.axes, choice.grid)
        require(choice.grid is not None, "Give the voxel size of the image")
        wanted = runs.Wanted(stack, self._psf(), Settings(engine=read_preferences().engine))
        place = regions.shown_point(self.viewer, layer, choice.axes)
        at = tuple(p for p, axis in zip(place, choice.axes, strict=True) if axis in "ZYX")
        return Lesson(wanted, self.panel.value(), at)

    def _psf(self) -> runs.Source:
        wish = self.psf.value()
        if not isinstance(wish, PsfLayer):
            return wish
        require(wish.name in self.viewer.layers, "Choose the layer that holds the PSF")
        return layers.psf_stack(self.viewer.layers[wish.name])

    def with_pairs(self, lesson: Lesson) -> Lesson:
        """Return a lesson with the layers that are learned from.

        Raises
        ------
        InputError
            If they are no pairs.
        """
        source = lesson.choice.source
        return replace(lesson, pairs=recorded_stacks(self.viewer, self.image.value(), source))
