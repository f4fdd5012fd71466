"""OME-XML, the text inside an OME-TIFF: built for an export, understood when read.

The text follows the 2016-06 schema. What the schema has no place for, the recipe above all,
stands in a `MapAnnotation` of the image, one JSON text a key. Any schema version is read:
only names that they share are asked for.
"""

from __future__ import annotations

import json
import re
import uuid
from xml.etree import ElementTree

from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import Plain

from .metadata import (
    IMMERSION_INDEX,
    Description,
    finite,
    micrometres,
    nanometres,
    positive,
    seconds,
)
from .provenance import SOFTWARE, stored_axes, stored_optics

Element = ElementTree.Element

SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
NAMESPACE = "napari-deconv/provenance"

_PIXEL_TYPES = {"float32": "float", "uint16": "uint16"}
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


#: Units of a position that OME knows, of those that are used.
_UNITS_OF_PLACES = ("pm", "Å", "nm", "µm", "mm", "cm", "m", "pixel", "reference frame")

#: OME's names of the microscopes that there is a model for.
_MODALITIES = {
    "WideField": "widefield",
    "LaserScanningConfocalMicroscopy": "confocal",
    "SpinningDiskConfocal": "spinning-disk",
    "MultiPhotonMicroscopy": "two-photon",
    "SPIM": "light-sheet",
    "STED": "effective-sted",
}


def build(stack: Stack, *, dtype: str, provenance: Plain) -> bytes:
    """Return the OME-XML of a stack whose planes are stored in the order of its axes.

    Parameters
    ----------
    stack : Stack
        All but its voxels is taken from it.
    dtype : {"float32", "uint16"}
        Type of the stored voxels.
    provenance : dict
        Plain values, kept as a map annotation.

    Returns
    -------
    bytes
        ASCII, as TIFF asks for; other characters are written as references.
    """
    root = Element(
        "OME",
        {
            "xmlns": SCHEMA,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{SCHEMA} {SCHEMA}/ome.xsd",
            "UUID": f"urn:uuid:{uuid.uuid4()}",
            "Creator": SOFTWARE,
        },
    )
    first = stack.channel_optics[0] if stack.channel_optics else KnownOptics()
    if first.na is not None or first.immersion_index is not None:
        _add_instrument(root, first)
    image = _child(root, "Image", ID="Image:0", Name=_text(stack.name) or "image")
    if stack.acquired:
        _child(image, "AcquisitionDate").text = _text(stack.acquired)
    if root.find("Instrument") is not None:
        _child(image, "InstrumentRef", ID="Instrument:0")
        settings = _child(image, "ObjectiveSettings", ID="Objective:0:0")
        if first.immersion_index is not None:
            settings.set("RefractiveIndex", repr(float(first.immersion_index)))
    _add_pixels(image, stack, dtype)
    _child(image, "AnnotationRef", ID="Annotation:0")
    annotations = _child(root, "StructuredAnnotations")
    kept = _child(annotations, "MapAnnotation", ID="Annotation:0", Namespace=NAMESPACE)
    value = _child(kept, "Value")
    for key, entry in provenance.items():
        _child(value, "M", K=key).text = json.dumps(entry)
    xml: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return xml


def _add_instrument(root: Element, optics: KnownOptics) -> None:
    objective = _child(_child(root, "Instrument", ID="Instrument:0"), "Objective")
    objective.set("ID", "Objective:0:0")
    if optics.na is not None:
        objective.set("LensNA", repr(float(optics.na)))
    names = {1.0: "Air", 1.333: "Water", 1.46: "Glycerol", 1.515: "Oil"}
    if optics.immersion_index is not None:
        objective.set("Immersion", names.get(optics.immersion_index, "Other"))


def _add_pixels(image: Element, stack: Stack, dtype: str) -> None:
    sizes = dict(zip(stack.axes, stack.shape, strict=True))
    pixels = _child(image, "Pixels", ID="Pixels:0", DimensionOrder="XYZCT")
    pixels.set("Type", _PIXEL_TYPES[dtype])
    for axis in "XYZCT":
        pixels.set(f"Size{axis}", str(sizes.get(axis, 1)))
    if stack.grid is not None:
        for axis, step in zip(stack.grid.axes, stack.grid.spacing_um, strict=True):
            pixels.set(f"PhysicalSize{axis}", repr(step))
            pixels.set(f"PhysicalSize{axis}Unit", "µm")
    if stack.time_step_s is not None and "T" in stack.axes:
        pixels.set("TimeIncrement", repr(float(stack.time_step_s)))
        pixels.set("TimeIncrementUnit", "s")
    for index in range(stack.channel_count()):
        channel = _child(pixels, "Channel", ID=f"Channel:0:{index}", SamplesPerPixel="1")
        if index < len(stack.channel_names):
            channel.set("Name", _text(stack.channel_names[index]))
        for colour in stack.channel_colours[index : index + 1]:
            if colour:
                channel.set("Color", str(_signed_rgba(colour)))
        for optics in stack.channel_optics[index : index + 1]:
            _add_light(channel, optics)
    planes = 1
    for axis in "ZCT":
        planes *= sizes.get(axis, 1)
    _child(pixels, "TiffData", IFD="0", PlaneCount=str(planes))
    if stack.position:
        first = _child(pixels, "Plane", TheZ="0", TheC="0", TheT="0")
        for axis, position in stack.position.items():
            place, unit = _in_known_unit(*position)
            first.set(f"Position{axis}", repr(place))
            first.set(f"Position{axis}Unit", unit)


def _in_known_unit(place: float, unit: str) -> tuple[float, str]:
    """Return a place in a unit that the schema knows."""
    if unit in _UNITS_OF_PLACES:
        return float(place), unit
    um = micrometres(place, unit)
    return (float(place), "reference frame") if um is None else (um, "µm")


def _add_light(channel: Element, optics: KnownOptics) -> None:
    """Write the wavelengths and the kind of microscope of a channel."""
    lights = (("Emission", optics.emission_nm), ("Excitation", optics.excitation_nm))
    for name, wavelength_nm in lights:
        if wavelength_nm is not None:
            channel.set(f"{name}Wavelength", repr(float(wavelength_nm)))
            channel.set(f"{name}WavelengthUnit", "nm")
    modes = {modality: mode for mode, modality in _MODALITIES.items()}
    if optics.modality in modes:
        channel.set("AcquisitionMode", modes[optics.modality])


def parse(xml: str | bytes, index: int = 0) -> Description:
    """Return what an OME-XML text says of an image, counted from 0; nothing where it is no XML.

    Where napari-deconv wrote the file, its own annotation adds what OME has no place for:
    whether Z is an axis of length one, and optics that differ between channels.
    """
    root = _root(xml)
    images = root.findall("Image") if root is not None else []
    image = images[index] if index < len(images) else None
    pixels = image.find("Pixels") if image is not None else None
    if root is None or image is None or pixels is None:
        return Description()
    channels = pixels.findall("Channel")
    own = _provenance(root)
    optics = stored_optics(own)
    if len(optics) != len(channels):
        optics = _channel_optics(root, image, channels)
    return Description(
        spacing=_spacing(pixels),
        channel_names=tuple(channel.get("Name", "") for channel in channels),
        channel_optics=optics,
        time_step_s=_time_step(pixels),
        z_is_axis="Z" in stored_axes(own),
        channel_colours=tuple(_colour(channel) for channel in channels),
        position=_position(pixels),
        acquired=(image.findtext("AcquisitionDate") or "").strip(),
    )


def provenance_in(xml: str | bytes) -> Plain | None:
    """Return the provenance that napari-deconv stored in an OME-XML text, or None."""
    root = _root(xml)
    return None if root is None else _provenance(root)


def _provenance(root: Element) -> Plain | None:
    for kept in root.iter("MapAnnotation"):
        if kept.get("Namespace") == NAMESPACE:
            try:
                return {
                    entry.get("K", ""): json.loads(entry.text or "") for entry in kept.iter("M")
                }
            except json.JSONDecodeError:
                return None
    return None


def _spacing(pixels: Element) -> dict[str, tuple[float, str]]:
    """Return the voxel's size; the schema's unit is the micrometre where none is written."""
    spacing = {}
    for axis in "ZYX":
        step = positive(pixels.get(f"PhysicalSize{axis}"))
        if step is not None:
            spacing[axis] = (step, pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return spacing


def _position(pixels: Element) -> dict[str, tuple[float, str]]:
    """Return where the stage stood for the first plane; without a unit it is the stage's own."""
    planes = pixels.findall("Plane")
    first = [p for p in planes if {p.get(f"The{axis}", "0") for axis in "ZCT"} == {"0"}]
    found = {}
    for plane in (*first, *planes)[:1]:
        for axis in "ZYX":
            place = finite(plane.get(f"Position{axis}"))
            if place is not None:
                found[axis] = (place, plane.get(f"Position{axis}Unit", "reference frame"))
    return found


def _colour(channel: Element) -> str:
    """Return the colour of a channel as "RRGGBB", "" where it has none."""
    try:
        rgba = int(channel.get("Color", "")) & 0xFFFFFFFF
    except ValueError:
        return ""
    return f"{rgba >> 8:06X}"


def _signed_rgba(colour: str) -> int:
    """Return an opaque "RRGGBB" as OME writes it: one number of 32 bits with a sign."""
    rgba = int(f"{colour}FF", 16)
    return rgba - 2**32 if rgba >= 2**31 else rgba


def _time_step(pixels: Element) -> float | None:
    step = positive(pixels.get("TimeIncrement"))
    return None if step is None else seconds(step, pixels.get("TimeIncrementUnit", "s"))


def _channel_optics(
    root: Element, image: Element, channels: list[Element]
) -> tuple[KnownOptics, ...]:
    na, immersion_index = _objective(root, image)
    entries = []
    for channel in channels:
        emission_nm, excitation_nm = (_light(channel, name) for name in ("Emission", "Excitation"))
        modality = _MODALITIES.get(channel.get("AcquisitionMode", ""))
        entries.append(KnownOptics(na, immersion_index, emission_nm, excitation_nm, modality))
    return tuple(entries)


def _light(channel: Element, name: str) -> float | None:
    wavelength = positive(channel.get(f"{name}Wavelength"))
    unit = channel.get(f"{name}WavelengthUnit", "nm")
    return None if wavelength is None else nanometres(wavelength, unit)


def _objective(root: Element, image: Element) -> tuple[float | None, float | None]:
    """Return NA and immersion index of the objective in use, or of the only one there is."""
    settings = image.find("ObjectiveSettings")
    objectives = root.findall("Instrument/Objective")
    if settings is not None:
        objectives = [found for found in objectives if found.get("ID") == settings.get("ID")]
    objective = objectives[0] if len(objectives) == 1 else Element("Objective")
    settings = Element("ObjectiveSettings") if settings is None else settings
    medium = settings.get("Medium") or objective.get("Immersion") or ""
    index = positive(settings.get("RefractiveIndex")) or IMMERSION_INDEX.get(medium.lower())
    return positive(objective.get("LensNA")), index


def _root(xml: str | bytes) -> Element | None:
    """Return the root with names freed of their schema, or None where it is no XML."""
    # A declared encoding contradicts a text that is decoded already, so it goes.
    text = xml if isinstance(xml, bytes) else re.sub(r"^\s*<\?xml[^>]*\?>", "", xml)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _child(parent: Element, tag: str, **attributes: str) -> Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _text(text: str) -> str:
    """Return `text` without the characters that XML cannot hold."""
    return _NOT_IN_XML.sub("", text)
