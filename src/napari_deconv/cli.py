"""The command `napari-deconv`: the same road as the dock and the script.

What a person reads goes to stderr; stdout carries only what was asked for (`--json`, lists),
so that it can be piped. Exit codes: 0 done, 1 bad input or failed, 2 wrong usage, 130 stopped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from napari_deconv.imaging.value import InputError

if TYPE_CHECKING:
    from napari_deconv.files.recipe import Method, Recipe
    from napari_deconv.imaging.optics import Optics
    from napari_deconv.imaging.stack import Stack
    from napari_deconv.pipeline import Restored
    from napari_deconv.restoration.restorer import Step

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Deconvolution of fluorescence stacks.",
)

Spacing = Annotated[
    str | None,
    typer.Option(
        "--voxel-size", metavar="Z,Y,X", help="Voxel size in um, where the file does not know it."
    ),
]
Na = Annotated[float | None, typer.Option(help="Numerical aperture.")]
Emission = Annotated[float | None, typer.Option(help="Emission wavelength in nm.")]
Immersion = Annotated[float | None, typer.Option(help="Refractive index of the immersion.")]
SampleIndex = Annotated[float | None, typer.Option(help="Refractive index of the sample.")]
Depth = Annotated[float | None, typer.Option(help="Depth below the coverslip in um.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON on stdout.")]


def main() -> None:
    """Run the command; every known failure is one sentence on stderr."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("Stopped; nothing was written.", 130)
    except MemoryError:
        _fail("There is not enough memory for this; close other programs or crop the stack.", 1)
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        _fail(f"This failed unexpectedly ({type(error).__name__}: {lines[0]}).", 1)


def _fail(sentence: str, code: int) -> NoReturn:
    print(f"napari-deconv: {sentence}", file=sys.stderr)
    raise SystemExit(code)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="TIFF, OME-TIFF or OME-Zarr.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="OME-TIFF (.ome.tif) or OME-Zarr (.ome.zarr).")
    ],
    psf: Annotated[Path | None, typer.Option(help="Image of the PSF, for instance a bead.")] = None,
    na: Na = None,
    emission_nm: Emission = None,
    immersion_index: Immersion = None,
    sample_index: SampleIndex = None,
    depth_um: Depth = None,
    voxel_size: Spacing = None,
    psf_voxel_size: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Voxel size of the PSF's image in um.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="richardson-lucy (the default) or wiener.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="Most iterations.")] = None,
    acceleration: Annotated[
        str | None, typer.Option(help="heavy-ball, biggs-andrews or none.")
    ] = None,
    tv_weight: Annotated[float | None, typer.Option(help="Total variation, 0 to 0.1.")] = None,
    edges: Annotated[str | None, typer.Option(help="non-circulant or circular.")] = None,
    read_noise: Annotated[float | None, typer.Option(help="Camera noise in photons.")] = None,
    stop_tolerance: Annotated[
        float | None, typer.Option(help="Stop at this relative change of the likelihood.")
    ] = None,
    regularization: Annotated[
        str | None, typer.Option(help="Wiener: noise to signal, or auto.")
    ] = None,
    background: Annotated[str | None, typer.Option(help="Counts, or auto (the default).")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, cpu, opencl or torch.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Take all from this recipe.")] = None,
    save_recipe: Annotated[Path | None, typer.Option(help="Write the recipe here.")] = None,
    dtype: Annotated[str, typer.Option(help="Type of the output: float32 or uint16.")] = "float32",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Restore a stack and write it with its metadata and recipe."""
    from dataclasses import replace

    from napari_deconv.files.export import check_writable
    from napari_deconv.files.recipe import read_recipe, write_recipe

    base = read_recipe(recipe) if recipe is not None else None
    stack = _read(source, voxel_size)
    wishes = {
        "iterations": iterations,
        "acceleration": acceleration,
        "tv_weight": tv_weight,
        "edges": edges,
        "read_noise": read_noise,
        "stop_tolerance": stop_tolerance,
        "regularization": _number_or_auto(regularization, "--regularization"),
    }
    optics = _given(
        na=na,
        emission_nm=emission_nm,
        immersion_index=immersion_index,
        sample_index=sample_index,
        depth_um=depth_um,
    )
    chosen = _recipe(
        base,
        psf=_psf_source(stack, psf, psf_voxel_size, optics, required=base is None),
        method=_method(method, _given(**wishes), base.method if base else None),
        background=_number_or_auto(background, "--background"),
        engine=engine,
    )
    _require_dtype(dtype)
    nbytes = stack.data.size * (2 if dtype == "uint16" else 4)
    check_writable(output, overwrite=overwrite, nbytes=nbytes)
    if save_recipe is not None:
        _require_free(save_recipe, overwrite=overwrite)
    restored = _run(stack, chosen)
    restored = replace(restored, stack=replace(restored.stack, name=stack.name))
    _write(restored, output, dtype=dtype, overwrite=overwrite)
    if save_recipe is not None:
        write_recipe(save_recipe, chosen)
    _report(restored, output, as_json=as_json)


@app.command()
def psf(
    output: Annotated[Path, typer.Option("--output", "-o", help="OME-TIFF or OME-Zarr.")],
    voxel_size: Annotated[
        str, typer.Option("--voxel-size", metavar="Z,Y,X", help="Voxel size in um.")
    ],
    image: Annotated[
        Path | None, typer.Argument(help="Image of a bead; without it the PSF is computed.")
    ] = None,
    na: Na = None,
    emission_nm: Emission = None,
    immersion_index: Immersion = None,
    sample_index: SampleIndex = None,
    depth_um: Depth = None,
    shape: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Voxels of the box; chosen if not given.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute a PSF from optics, or prepare one from the image of a bead, and write it."""
    from napari_deconv.files.export import write_stack
    from napari_deconv.files.recipe import PsfFile
    from napari_deconv.imaging.grid import Grid
    from napari_deconv.imaging.psf import Psf
    from napari_deconv.imaging.psf_models import compute_psf, fwhm_um
    from napari_deconv.imaging.stack import KnownOptics, Stack
    from napari_deconv.pipeline import psf_of_file

    grid = Grid(spacing_um=_numbers(voxel_size, "--voxel-size"))
    optics = _given(
        na=na,
        emission_nm=emission_nm,
        immersion_index=immersion_index,
        sample_index=sample_index,
        depth_um=depth_um,
    )
    known: tuple[KnownOptics, ...] = ()
    made: Psf
    if image is not None:
        if optics:
            raise InputError("Give either the image of a bead or optics (--na ...), not both")
        made = psf_of_file(PsfFile.of(image), grid)
    else:
        described = _optics(optics)
        box = _voxels(shape, "--shape") if shape else None
        made = compute_psf(described, grid, box)
        known = (KnownOptics(described.na, described.immersion_index, described.emission_nm),)
        _say(f"PSF: {described.describe()}")
    stack = Stack(made.samples, grid.axes, grid, "PSF", ("PSF",), known)
    write_stack(output, stack, overwrite=overwrite)
    for note in made.notes:
        _say(note)
    widths = " x ".join(f"{width:.3f}" for width in fwhm_um(made))
    _say(f"Wrote {output}: {' x '.join(map(str, made.shape))} voxels, FWHM {widths} um")


@app.command()
def devices(as_json: AsJson = False) -> None:
    """List what this machine can compute on, with memory and the result of a self-test."""
    from napari_deconv.engines import devices as list_devices
    from napari_deconv.engines import open_engine, tried

    rows: list[dict[str, Any]] = []
    for device in list_devices():
        _, verdict = tried(device)
        rows.append(
            {
                "engine": device.engine,
                "device": device.name,
                "gpu": device.is_gpu,
                "memory_bytes": device.memory_bytes,
                "self_test": verdict,
            }
        )
    chosen = open_engine("auto")
    if as_json:
        print(json.dumps({"devices": rows, "auto": chosen.device}))
        return
    for row in rows:
        memory = f"{row['memory_bytes'] / 1e9:.1f} GB" if row["memory_bytes"] else "memory unknown"
        print(f"{row['engine']:7} {row['device']}, {memory}: {row['self_test']}")
    for name, extra in (("opencl", "opencl"), ("torch", "learned")):
        if not any(row["engine"] == name for row in rows):
            print(f'{name:7} nothing found; pip install "napari-deconv[{extra}]", and a driver')
    print(f"auto    would use {chosen.device}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path("demo"),
    iterations: Annotated[int, typer.Option(help="Most iterations.")] = 30,
    engine: Annotated[str, typer.Option(help="auto, cpu, opencl or torch.")] = "auto",
    viewer: Annotated[bool, typer.Option(help="Open napari where there is a display.")] = True,
) -> None:
    """Restore the bundled real stack, write it and a picture, and show both in napari."""
    from napari_deconv.files.export import check_writable
    from napari_deconv.files.picture import write_comparison
    from napari_deconv.files.recipe import Recipe
    from napari_deconv.files.samples import CELL_PATH, real_psf, real_stack
    from napari_deconv.restoration.richardson_lucy import RichardsonLucy

    stack = real_stack()
    recipe = Recipe(real_psf(), RichardsonLucy(iterations), engine=engine)
    output = folder / "restored.ome.tif"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}") from error
    check_writable(output, overwrite=True, nbytes=4 * stack.data.size)
    restored = _run(stack, recipe)
    _write(restored, output, dtype="float32", overwrite=True)
    picture = folder / "before_after.png"
    write_comparison(picture, stack, restored.stack)
    _report(restored, output, as_json=False)
    _say(f"Picture     {picture}")
    if viewer and _has_display():
        _show(CELL_PATH, output)


def _show(*paths: Path) -> None:
    """Open napari on the files, in a process of its own: this one stays free of the viewer."""
    import subprocess

    command = [sys.executable, "-m", "napari_deconv.ui", *map(str, paths)]
    if subprocess.run(command, check=False).returncode != 0:
        _say("The viewer could not be opened; the files are written all the same")


def _has_display() -> bool:
    import os

    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _read(source: Path, voxel_size: str | None) -> Stack:
    from dataclasses import replace

    from napari_deconv.files.reading import read_stack
    from napari_deconv.imaging.grid import Grid

    stack = read_stack(source)
    if voxel_size is None:
        where = "from the file" if stack.grid else "unknown"
    else:
        stack = replace(stack, grid=Grid(spacing_um=_numbers(voxel_size, "--voxel-size")))
        where = "as given"
    grid = stack.grid.describe() if stack.grid else "voxel size"
    _say(f"Image       {source.name}: {stack.axes} {stack.shape}, {grid} ({where})")
    return stack


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise InputError(
            f"{option} {text!r} is not a list of numbers such as 0.3,0.1,0.1"
        ) from None


def _voxels(text: str, option: str) -> tuple[int, ...]:
    numbers = _numbers(text, option)
    if not all(number.is_integer() for number in numbers):
        raise InputError(f"{option} {text!r} is not a list of whole numbers such as 21,31,31")
    return tuple(int(number) for number in numbers)


def _require_dtype(dtype: str) -> None:
    from napari_deconv.files.export import DTYPES

    if dtype not in DTYPES:
        raise InputError(f"The type {dtype!r} is not written; choose {' or '.join(DTYPES)}")


def _require_free(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise InputError(f"{path.name} exists already; choose another name, or give --overwrite")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent}; create it, or choose another")


def _number_or_auto(text: str | None, option: str) -> float | str | None:
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option} {text!r} is neither a number nor 'auto'") from None


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _optics(given: dict[str, Any]) -> Optics:
    from napari_deconv.imaging.optics import Optics

    missing = [name for name in ("na", "emission_nm") if name not in given]
    if missing:
        options = " and ".join("--" + name.replace("_", "-") for name in missing)
        raise InputError(
            f"A PSF is needed: give its image with --psf FILE, or the optics; {options} missing"
        )
    return Optics(**given)


def _psf_source(
    stack: Stack,
    path: Path | None,
    voxel_size: str | None,
    optics: dict[str, Any],
    *,
    required: bool,
) -> Any:
    """Return the PSF of the options, else what the file knows, else None where a recipe has it."""
    from napari_deconv.files.recipe import PsfFile

    if path is not None:
        if optics:
            raise InputError("Give either the PSF's image (--psf) or optics (--na ...), not both")
        spacing = _numbers(voxel_size, "--psf-voxel-size") if voxel_size else None
        return PsfFile.of(path, voxel_size_um=spacing)
    if not optics and not required:
        return None
    known = stack.channel_optics[0] if stack.channel_optics else None
    from_file = _given(**{k: v for k, v in known.to_dict().items() if k != "kind"}) if known else {}
    described = _optics(from_file | optics)
    taken = [name for name in from_file if name not in optics]
    _say(f"PSF         {described.describe()}")
    if taken:
        _say(f"            from the file: {', '.join(taken)}")
    assumed = {"immersion_index", "sample_index", "depth_um"} - set(optics) - set(taken)
    if assumed:
        _say(f"            assumed: {', '.join(sorted(assumed))}")
    return described


def _method(name: str | None, wishes: dict[str, Any], base: Method | None) -> Method | None:
    """Return the method of the options; what they leave open is as in the recipe's, `base`."""
    from dataclasses import replace

    from napari_deconv.restoration.richardson_lucy import RichardsonLucy
    from napari_deconv.restoration.wiener import Wiener

    if name is None and not wishes and base is not None:
        return None
    kinds: dict[str, type[Method]] = {"richardson-lucy": RichardsonLucy, "wiener": Wiener}
    usual = "wiener" if "regularization" in wishes else "richardson-lucy"
    chosen = name or next((n for n, kind in kinds.items() if type(base) is kind), usual)
    if chosen not in kinds:
        raise InputError(f"The method {chosen!r} is not known; choose {' or '.join(kinds)}")
    known = set(kinds[chosen].__dataclass_fields__)
    unknown = sorted("--" + wish.replace("_", "-") for wish in set(wishes) - known)
    if unknown:
        raise InputError(f"The method {chosen} has no {', '.join(unknown)}")
    return replace(base, **wishes) if type(base) is kinds[chosen] else kinds[chosen](**wishes)


def _recipe(base: Recipe | None, **wishes: Any) -> Recipe:
    """Return the recipe of the file, if any, with the options of the command over it."""
    from dataclasses import replace

    from napari_deconv.files.recipe import Recipe

    given = _given(**wishes)
    return Recipe(**given) if base is None else replace(base, **given)


def _run(stack: Stack, recipe: Recipe) -> Restored:
    """Run to the end with progress on stderr; Ctrl-C ends it after the iteration."""
    from napari_deconv.pipeline import restoring

    try:
        with _progress() as show:
            return _drained(restoring(stack, recipe), show)
    except KeyboardInterrupt:
        # Told here: the parser of the command line would end without a word.
        _fail("Stopped; nothing was written.", 130)


def _drained(steps: Generator[Step, None, Restored], show: Callable[[Step], None]) -> Restored:
    try:
        while True:
            show(next(steps))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


@contextmanager
def _progress() -> Iterator[Callable[[Step], None]]:
    """Yield a function that shows a step: one moving line on a terminal, few lines elsewhere."""
    moving = sys.stderr.isatty()
    last = -1

    def show(step: Step) -> None:
        nonlocal last
        tenth = 10 * step.done // step.total
        text = f"{step.done}/{step.total} {step.note}"
        if moving:
            filled = 30 * step.done // step.total
            bar = "#" * filled + "-" * (30 - filled)
            print(f"\r[{bar}] {text[:60]:60}", end="", file=sys.stderr, flush=True)
        elif tenth != last or step.done == 0:
            _say(f"Progress    {text}")
        last = tenth

    yield show
    if moving:
        print(file=sys.stderr)


def _write(restored: Restored, output: Path, *, dtype: str, overwrite: bool) -> None:
    from napari_deconv.files.export import write_stack

    written = write_stack(
        output,
        restored.stack,
        dtype=dtype,
        recipe=restored.recipe.to_dict(),
        record=restored.record.to_dict(),
        overwrite=overwrite,
    )
    for note in written.notes:
        _say(note)


def _report(restored: Restored, output: Path, *, as_json: bool) -> None:
    record, recipe = restored.record, restored.recipe
    for note in record.notes:
        _say(f"Note        {note}")
    grid = restored.stack.grid
    psf_source = recipe.psf.to_dict()
    described = psf_source.get("path") or "computed"
    _say(f"Engine      {record.device}")
    _say(f"Voxel size  {grid.describe() if grid else 'unknown'}")
    _say(f"PSF         {Path(described).name}, {' x '.join(map(str, record.psf_shape))} voxels")
    for block in record.blocks:
        index = f"block {list(block.index)}: " if block.index else ""
        _say(f"Iterations  {index}{block.stop_reason}; background {block.background:.4g}")
    _say(f"Time        {record.seconds:.1f} s")
    _say(f"Memory      {record.peak_memory_bytes / 1e9:.2f} GB at the peak")
    _say(f"Output      {output}")
    if as_json:
        print(
            json.dumps(
                {"output": str(output), "recipe": recipe.to_dict(), "record": record.to_dict()}
            )
        )
