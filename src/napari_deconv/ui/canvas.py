"""A way around a fault of the canvas that layers are drawn on."""

from __future__ import annotations

from napari.viewer import Viewer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication

#: Attributes of vertices that every OpenGL has.
ATTRIBUTES = 16


def survive_removals(viewer: Viewer) -> None:
    """Keep a viewer alive when a layer of shapes or labels is removed, and then another one added.

    napari 0.9 leaves the vertices of what it removed switched on, and the next layer is drawn with
    memory that is gone: the process ends (napari issues 8165 and 8471).
    """
    viewer.layers.events.removing.connect(_forget_vertices)


def _forget_vertices(event: object = None) -> None:
    """Switch all vertices off; what is drawn switches its own on again."""
    from vispy.gloo import gl

    for widget in QApplication.allWidgets():
        if isinstance(widget, QOpenGLWidget) and widget.isValid():
            widget.makeCurrent()
            for attribute in range(ATTRIBUTES):
                gl.glDisableVertexAttribArray(attribute)
