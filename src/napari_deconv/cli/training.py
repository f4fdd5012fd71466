"""The verb `train`: from a PSF, or from recordings, to a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError
from napari_deconv.library_words import loss_in_words

from .arguments import numbers, read_image, without_none
from .optics_options import optics_of, with_optics
from .options import Engine
from .terminal import followed, say

if TYPE_CHECKING:
    from napari_deconv.imaging.psf import Psf
    from napari_deconv.imaging.stack import Stack
    from napari_deconv.learned.model_file import Card, Model
    from napari_deconv.learned.pairs import Light, Pair, Twin
    from napari_deconv.learned.trainer import Schedule
    from napari_deconv.learning import Told


@with_optics
def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File of the model (.safetensors).")
    ],
    like: Annotated[
        Path | None,
        typer.Option(help="A stack that the network is for: its voxel size, light and background."),
    ] = None,
    raw: Annotated[
        Path | None, typer.Option(help="Folder of recorded images, in place of simulated ones.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Folder of what they should become, by the same names.")
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(help="Folder of the same samples recorded once more: no truth is needed."),
    ] = None,
    halves: Annotated[
        bool,
        typer.Option("--halves", help="Learn from the photons of --like as well, dealt to two."),
    ] = False,
    only_recorded: Annotated[
        bool,
        typer.Option("--only-recorded", help="With --again or --halves: simulate nothing."),
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option(
            help="A model whose weights are where training starts; a network that comes with the "
            "package, where one is of the kind and pairs are simulated."
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from no network at all.")
    ] = False,
    psf: Annotated[
        list[Path] | None,
        typer.Option(help="Image of the PSF, for instance a bead; several are a family."),
    ] = None,
    voxel_size: Annotated[
        str | None, typer.Option("--voxel-size", metavar="Z,Y,X", help="Voxel size in um.")
    ] = None,
    photons: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Photons in the brightest voxels, from to."),
    ] = None,
    background: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Counts under everything, from to.")
    ] = None,
    read_noise: Annotated[float, typer.Option(help="Camera noise in photons.")] = 1.0,
    gain: Annotated[
        float | None, typer.Option(help="Counts a photon; of the stack's noise where not given.")
    ] = None,
    offset: Annotated[
        float | None, typer.Option(help="Counts without light; of the stack's noise, too.")
    ] = None,
    structures: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Structures to learn from; all where not given."),
    ] = None,
    *,
    optics: dict[str, Any],
    network: Annotated[
        str,
        typer.Option(
            help="inverse, care, wiener, wiener-kpn, wiener-unet or unrolled-rl; see the page "
            "on trained networks."
        ),
    ] = "inverse",
    loss: Annotated[str, typer.Option(help="squares, amounts, laplace or structure.")] = "squares",
    rate: Annotated[str, typer.Option(help="Of learning: cosine or plateau.")] = "cosine",
    members: Annotated[int, typer.Option(help="Networks that answer together.")] = 1,
    preset: Annotated[str, typer.Option(help="quick, standard or thorough.")] = "quick",
    steps: Annotated[int | None, typer.Option(help="Most steps, in place of the preset's.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same network.")] = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Keep the state here; one that is there is taken up.")
    ] = None,
    engine: Engine = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model.")] = False,
) -> None:
    """Train a network on pairs that are simulated with your own PSF."""
    from napari_deconv import learning
    from napari_deconv.engines import open_engine

    schedule = learning.schedule_of(
        preset, seed=seed, steps=steps, loss=loss, rate=rate, members=members
    )
    # Only now: it imports torch, and the schedule has said so where that is missing.
    from napari_deconv.learned.model_file import SUFFIX, write_model

    checkpoint = checkpoint.expanduser() if checkpoint is not None else None
    _require_places(output, checkpoint, members, overwrite=overwrite)
    files = _files(raw, truth, again)
    like = files[0][0] if files and like is None else like
    stack = read_image(like, voxel_size) if like is not None else None
    psfs = _psfs(psf, optics, stack, voxel_size)
    known = without_none(gain=gain, offset=offset)
    told = _told(stack, known, read_noise, photons, background, structures)
    pairs, twins = _recorded(files, told, voxel_size, twice=again is not None)
    if halves:
        twins += _halves(stack, told, seed)
    _say_lesson(psfs, told.light, pairs, twins)
    begun, schedule = _begun(
        None if from_scratch or pairs or only_recorded or members > 1 else (psfs[0], network),
        start,
        schedule,
    )
    run = learning.train(
        psfs,
        told.light,
        schedule,
        open_engine(engine),
        network=network,
        name=output.name[: -len(SUFFIX)],
        checkpoint=checkpoint,
        pairs=pairs,
        twins=twins,
        only_twins=only_recorded,
        start=begun,
        steps=steps,
    )
    model = followed(run, lambda: _stopped(checkpoint))
    write_model(output, model, overwrite=overwrite)
    _say_trained(model.card, output)


def _require_places(
    output: Path, checkpoint: Path | None, members: int, *, overwrite: bool
) -> None:
    """Raise `InputError` where a model, or the state on the way, could not be written later."""
    from napari_deconv.learned.model_file import require_place
    from napari_deconv.learned.training import checkpoints_of

    require_place(output)
    if checkpoint is not None:
        require_place(checkpoint, "a checkpoint")
        kept = [path.resolve() for path in checkpoints_of(checkpoint, members)]
        if output.expanduser().resolve() in kept:
            raise InputError(
                f"The model and the state on the way would both be kept in {output}; give "
                "--checkpoint another name"
            )
    if output.expanduser().exists() and not overwrite:
        raise InputError(f"{output} exists already; choose another name, or give --overwrite")


def _recorded(
    files: list[tuple[Path, Path]], told: Told, spacing: str | None, *, twice: bool
) -> tuple[list[Pair], list[Twin]]:
    """Return what the files hold: pairs with a truth, or samples that were recorded twice."""
    from napari_deconv import recordings

    stacks = (_stacks(both, spacing) for both in files)
    if not twice:
        return [pair for both in stacks for pair in recordings.pairs_of(*both)], []
    camera = told.assumed_camera
    return [], [twin for both in stacks for twin in recordings.repeats_of(*both, camera)]


def _halves(stack: Stack | None, told: Told, seed: int) -> list[Twin]:
    """Return the photons of a stack, dealt out to two images each."""
    from napari_deconv import recordings

    if stack is None:
        raise InputError("The photons of which stack? Give it with --like")
    return recordings.halves_of(stack, told.assumed_camera, seed=seed)


def _say_lesson(psfs: list[Psf], light: Light, pairs: list[Pair], twins: list[Twin]) -> None:
    if pairs:
        say(f"Pairs       {len(pairs)}, recorded")
    if twins:
        say(f"Recordings  {len(twins)}, each of them twice")
    say(f"PSF         {' x '.join(map(str, psfs[0].shape))} voxels" + _and_more(psfs))
    say(f"Camera      {light.gain:.3g} counts a photon, offset {light.offset:.4g}")
    say(f"Photons     {light.photons[0]:.4g} to {light.photons[1]:.4g} in the brightest voxels")
    say(f"Background  {light.background[0]:.4g} to {light.background[1]:.4g}")


def _say_trained(card: Card, output: Path) -> None:
    say(f"Trained     {card.steps} steps in {card.seconds:.0f} s")
    say(f"Loss        {loss_in_words(card)}")
    if card.calibration is not None:
        say(f"Intervals   {card.calibration.in_words()}")
    say(f"Output      {output}")


def _begun(
    usual: tuple[Psf, str] | None, start: Path | None, schedule: Schedule
) -> tuple[Model | None, Schedule]:
    """Return the network to begin with, and the schedule as it is from there.

    `usual` is the PSF and the kind of network that the package may have a start for.
    """
    from napari_deconv import learning
    from napari_deconv.learned.model_file import read_model
    from napari_deconv.library import resolve

    if start is not None:
        return read_model(resolve(start)), learning.gentler(schedule)
    begun = learning.usual_start(*usual) if usual is not None else None
    if begun is None:
        return None, schedule
    say(f"Starts from {begun.card.name}")
    return begun, learning.shorter(schedule)


def _files(raw: Path | None, truth: Path | None, again: Path | None) -> list[tuple[Path, Path]]:
    """Return the recorded files that belong together."""
    from napari_deconv import recordings

    if truth is not None and again is not None:
        raise InputError("Give either --truth or --again: pairs with a truth, or recorded twice")
    second = truth or again
    if (raw is None) != (second is None):
        raise InputError("Recorded pairs need two folders: --raw and --truth, or --raw and --again")
    return recordings.pairs_in(raw, second) if raw is not None and second is not None else []


def _stacks(files: tuple[Path, Path], spacing: str | None) -> tuple[Stack, Stack]:
    """Return the stacks in two files, by the names of these; a voxel size that is given counts."""
    from dataclasses import replace

    from napari_deconv.files.reading import read_stack
    from napari_deconv.imaging.grid import Grid

    known: dict[str, Any] = {}
    if spacing is not None:
        known["grid"] = Grid(spacing_um=numbers(spacing, "--voxel-size"))
    first, second = (replace(read_stack(path), name=path.name, **known) for path in files)
    return first, second


def _and_more(psfs: list[Psf]) -> str:
    return f", and {len(psfs) - 1} more" if len(psfs) > 1 else ""


def _stopped(checkpoint: Path | None) -> str:
    """Return what a training that was stopped left behind."""
    if checkpoint is None:
        return "Stopped; nothing was written. Give --checkpoint to go on another time."
    if not checkpoint.exists():
        return f"Stopped before anything was learned; nothing is kept in {checkpoint} yet."
    return f"Stopped; the same command goes on from {checkpoint}, where it was last kept."


def _psfs(
    paths: list[Path] | None, optics: dict[str, Any], stack: Stack | None, spacing: str | None
) -> list[Psf]:
    """Return the PSFs on the voxels that are trained for."""
    from napari_deconv.files.recipe import PsfFile
    from napari_deconv.imaging.grid import Grid
    from napari_deconv.imaging.psf_models import compute_psf
    from napari_deconv.psf_sources import psf_of_file

    grid = stack.grid if stack is not None else None
    if spacing is not None:
        grid = Grid(spacing_um=numbers(spacing, "--voxel-size"))
    if grid is None:
        raise InputError(
            "The voxel size to train for is unknown; give --voxel-size Z,Y,X, or --like with a "
            "stack that knows it"
        )
    if paths:
        if optics:
            raise InputError("Give either the image of a PSF or optics (--na ...), not both")
        return [psf_of_file(PsfFile.of(path), grid) for path in paths]
    return [compute_psf(optics_of(optics), grid)]


def _told(
    stack: Stack | None,
    known: dict[str, float],
    read_noise: float,
    photons: str | None,
    background: str | None,
    structures: str | None,
) -> Told:
    """Return the light to train for: what was said, else that of the stack, else the usual.

    `known` holds what was said of the camera's gain and offset.
    """
    from dataclasses import replace

    from napari_deconv.imaging.camera import Camera
    from napari_deconv.learned.pairs import Light
    from napari_deconv.learning import Told, light_like

    camera = replace(Camera(read_noise=read_noise), **known)
    told = Told(Light(read_noise=read_noise, gain=camera.gain, offset=camera.offset), None)
    if stack is not None:
        told = light_like(stack, read_noise=read_noise)
        if known:
            told = light_like(stack, replace(told.camera or camera, **known))
        say(f"Light       as in {stack.name}: {told.in_words()}")
    said: dict[str, Any] = {}
    if photons is not None:
        said["photons"] = numbers(photons, "--photons")
    if background is not None:
        said["background"] = numbers(background, "--background")
    if structures is not None:
        said["kinds"] = tuple(name.strip() for name in structures.split(","))
    return replace(told, light=replace(told.light, **said))
