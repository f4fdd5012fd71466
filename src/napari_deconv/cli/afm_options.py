"""The options that the verbs `afm ...` share: what is read, how it is prepared, and the tip."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError

from .arguments import numbers, whole_numbers, without_none
from .terminal import say

if TYPE_CHECKING:
    from napari_deconv.afm.height_map import HeightMap
    from napari_deconv.afm.preparing import Preparation
    from napari_deconv.surfaces import AnyTip, SurfaceRecipe

_READ: dict[str, tuple[Any, str]] = {
    "channel": (str, "Channel of the file; see `afm channels`."),
    "z_unit": (str, "Unit of the heights where the file does not tell: nm, um, m, angstrom."),
    "pixel_nm": (str, "Pixel size in nm where the file does not tell, Y,X or one number."),
}
_PREPARED: dict[str, tuple[Any, str]] = {
    "level": (int, "Take out a polynomial: 0 offset, 1 plane, 2 to 4; high objects are masked."),
    "rows": (bool, "Align rows by the median of their differences."),
    "scars": (bool, "Take out scars: short streaks along a row."),
    "denoise": (str, "tv (total variation) or nlm (non-local means)."),
    "strength": (float, "Of the denoising; 1 where not given."),
}
#: The tip, and the noise that those who use it reckon with.
_TIP: dict[str, tuple[Any, str]] = {
    "tip": (
        str,
        "paraboloid, elliptic-paraboloid, cone, pyramid, delta, blind (Villarrubia), gradient "
        "(differentiable), or a file.",
    ),
    "radius_nm": (float, "Radius of the apex in nm."),
    "second_radius_nm": (float, "Elliptic paraboloid: its other radius in nm."),
    "half_angle_deg": (float, "Cone and pyramid: from the axis to the side, degrees."),
    "sides": (int, "Pyramid: its sides."),
    "rotation_deg": (float, "Elliptic paraboloid and pyramid: turn from x to y, degrees."),
    "tip_shape": (str, "Blind and gradient: pixels of the tip, Y,X."),
    "by": (str, "Blind: full or partial."),
    "threshold_nm": (float, "Blind: heights that noise may explain; chosen where not given."),
    "symmetric": (bool, "Gradient: the tip is the same when turned by half a turn."),
    "seed": (int, "Gradient: of all that is random."),
    "noise_nm": (float, "Noise of the prepared heights in nm; estimated where not given."),
}

#: The options that each kind of tip takes.
_TAKES = {
    "paraboloid": ("radius_nm",),
    "elliptic-paraboloid": ("radius_nm", "second_radius_nm", "rotation_deg"),
    "cone": ("radius_nm", "half_angle_deg"),
    "pyramid": ("radius_nm", "half_angle_deg", "sides", "rotation_deg"),
    "delta": (),
    "blind": ("tip_shape", "by", "threshold_nm"),
    "gradient": ("tip_shape", "symmetric", "seed"),
}
_OF_TIPS = tuple(dict.fromkeys(name for names in _TAKES.values() for name in names))
_DENOISE: dict[str, Any] = {"tv": "total variation", "nlm": "non-local means"}


@dataclass(frozen=True)
class Heights:
    """What was said of the file of heights."""

    given: dict[str, Any]

    def read(self, source: Path) -> HeightMap:
        """Read the heights, and say what they are."""
        from napari_deconv.files.heights import read_heights

        pixel = self.given.get("pixel_nm")
        steps = numbers(pixel, "--pixel-nm", "1.5 or 2,1") if pixel else ()
        if pixel and len(steps) not in (1, 2):
            raise InputError(f"--pixel-nm {pixel!r} is neither one number nor Y,X")
        found = read_heights(
            source,
            channel=self.given.get("channel"),
            z_unit=self.given.get("z_unit"),
            pixel_nm=(steps[0], steps[-1]) if steps else None,
        )
        shape = " x ".join(map(str, found.heights_nm.shape))
        size = " x ".join(f"{step:.4g}" for step in found.pixel_nm)
        say(
            f"Heights     {source.name}, {found.channel or 'heights'}: {shape}, pixels of {size} "
            f"nm, {found.range_nm:.4g} nm from low to high"
        )
        return found


@dataclass(frozen=True)
class Preparing:
    """What was said of how heights are prepared."""

    given: dict[str, Any]

    def recipe(self, heights: Heights) -> SurfaceRecipe:
        """Return the recipe of what is read and prepared, with no word of a tip."""
        from napari_deconv.surfaces import SurfaceRecipe

        return SurfaceRecipe(
            steps=self._steps(),
            channel=heights.given.get("channel") or "",
            z_unit=heights.given.get("z_unit") or "",
        )

    def _steps(self) -> tuple[Preparation, ...]:
        from napari_deconv.afm.levelling import Level, Rows
        from napari_deconv.afm.preparing import Denoise, Scars

        given = self.given
        steps: list[Level | Rows | Scars | Denoise] = []
        if "level" in given:
            steps.append(Level(given["level"]))
        if given.get("rows"):
            # Aligned rows keep their slope along y: what is level is found once more.
            steps += [Rows(), *steps]
        if given.get("scars"):
            steps.append(Scars())
        if "denoise" in given:
            name = given["denoise"].lower()
            if name not in _DENOISE:
                raise InputError(f"--denoise {given['denoise']!r} is not known; choose tv or nlm")
            steps.append(Denoise(_DENOISE[name], **without_none(strength=given.get("strength"))))
        elif "strength" in given:
            raise InputError("--strength is that of --denoise, which is not there")
        return tuple(steps)


@dataclass(frozen=True)
class TipWish:
    """What was said of the tip, and of the noise."""

    given: dict[str, Any]

    def added_to(self, recipe: SurfaceRecipe, usual: str = "cone") -> SurfaceRecipe:
        """Return the recipe with the tip, the `usual` one where none was named."""
        from dataclasses import replace

        tip = self._tip(self.given.get("tip", usual))
        return replace(recipe, tip=tip, noise_nm=self.given.get("noise_nm"))

    def _tip(self, name: str) -> AnyTip:
        from napari_deconv.afm.blind_tip import BlindTip
        from napari_deconv.afm.gradient_tip import GradientTip
        from napari_deconv.afm.tips import SHAPES
        from napari_deconv.surfaces import TipFile

        kind = name.lower().replace(" ", "-").replace("_", "-")
        typed = {wish: self.given[wish] for wish in _OF_TIPS if wish in self.given}
        if kind not in _TAKES:
            if not Path(name).suffix:
                raise InputError(
                    f"--tip {name!r} is not known; choose {', '.join(_TAKES)}, or a file"
                )
            _refuse(typed, (), "a file")
            return TipFile(name)
        _refuse(typed, _TAKES[kind], kind)
        if "tip_shape" in typed:
            typed["shape"] = whole_numbers(typed.pop("tip_shape"), "--tip-shape")
        if kind in ("blind", "gradient"):
            made: AnyTip = {"blind": BlindTip, "gradient": GradientTip}[kind](**typed)
            return made
        return SHAPES[kind.replace("-", " ")](**typed)


def _refuse(typed: dict[str, Any], known: tuple[str, ...], kind: str) -> None:
    others = sorted("--" + name.replace("_", "-") for name in set(typed) - set(known))
    if others:
        raise InputError(f"The tip {kind} has no {', '.join(others)}")


#: The parameters of a verb that stand for shared options, with those and the value they become.
_SHARED: dict[str, tuple[dict[str, tuple[Any, str]], Callable[[dict[str, Any]], Any]]] = {
    "heights": (_READ, Heights),
    "preparing": (_PREPARED, Preparing),
    "wish": (_TIP, TipWish),
}


def with_afm_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the shared options, in the place of its parameters that stand for them."""
    own = inspect.signature(command, eval_str=True).parameters
    shared = {name: _SHARED[name] for name in own if name in _SHARED}
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.items():
        if name in shared:
            parameters += [_parameter(option, *told) for option, told in shared[name][0].items()]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def with_options(**options: Any) -> None:
        said = {
            name: value_of({option: v for option in names if _typed(v := options.pop(option))})
            for name, (names, value_of) in shared.items()
        }
        command(**options, **said)

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def _parameter(option: str, of: Any, words: str) -> inspect.Parameter:
    """Return the parameter of an option, or of a switch."""
    note = typer.Option("--" + option.replace("_", "-"), help=words)
    default, kind = (False, of) if of is bool else (None, of | None)
    return inspect.Parameter(
        option,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, note],
    )


def _typed(value: Any) -> bool:
    """Return whether an option was given: neither left out, nor a switch that is off."""
    return value is not None and value is not False
