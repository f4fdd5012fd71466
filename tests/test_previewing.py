"""A region restored while the user looks on: in the end it is what a run gives there."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv import previewing
from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.files.recipe import Classical, Recipe, TrainedModel
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.region import Region, region_around
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.library import resolve
from napari_deconv.methods import restorer_of
from napari_deconv.pipeline import restore_stack
from napari_deconv.previewing import Frame, Preview, needed_part
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

Array = npt.NDArray[np.float64]
Make = Callable[[tuple[int, ...]], Array]

#: What the whole module previews: two channels of a stack in which a region's needs end well
#: inside, and regions in a corner, in the middle, and on one border.
SHAPE, SIDES = (14, 81, 76), (5, 7, 6)
REGIONS = {
    "corner": Region((0, 0, 0), (6, 16, 16)),
    "middle": Region((4, 33, 30), (6, 15, 16)),
    "border": Region((8, 65, 30), (6, 16, 16)),
}
METHODS: dict[str, Classical] = {
    "plain": RichardsonLucy(20, "none"),
    "heavy ball": RichardsonLucy(30),
    "total variation": RichardsonLucy(20, tv_weight=0.002),
    "smooth and plain": RichardsonLucy(20, "none", tv_weight=0.01),
    "many iterations": RichardsonLucy(100),
    "Biggs-Andrews": RichardsonLucy(20, "biggs-andrews"),
    "automatic stop": RichardsonLucy(60, stop_tolerance=3e-3),
    "circular": RichardsonLucy(20, edges="circular"),
    "read noise": RichardsonLucy(20, read_noise=2.0),
    "Wiener": Wiener(),
    "Wiener by hand": Wiener(0.02, edges="circular"),
}


@pytest.fixture
def psf(asymmetric_psf: Make) -> Psf:
    return Psf(asymmetric_psf(SIDES))


@pytest.fixture
def image() -> Array:
    """Return dots, blurred and noisy, everywhere in two channels of unlike brightness."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(3)
    dots = np.where(rng.random((2, *SHAPE)) > 0.99, 2e4, 0.0) * [[[[1.0]]], [[[0.4]]]]
    blurred = gaussian_filter(dots, (0, 1.2, 1.5, 1.5), mode="constant")
    return rng.poisson(blurred + 20).astype(float)


@pytest.fixture(params=["small part first", "all at once"])
def stages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the small part be smaller than what a region needs, or not."""
    if request.param == "small part first":
        monkeypatch.setattr(previewing, "MARGIN", (2, 4, 4))
    return str(request.param)


def ended(frames: Iterator[Frame]) -> Frame:
    *_, last = frames
    return last


def pictures(frames: Iterator[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.data is not None]


def off_by(last: Frame, whole: Any) -> float:
    """Return how far the region is from that of a run, in parts of the run's maximum."""
    assert last.kind == "full"
    assert last.data is not None
    assert last.data.dtype == np.float32
    return float(np.abs(last.data - whole[last.region.slices]).max() / whole.max())


# -- it ends where a run ends ------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_the_last_frame_is_what_a_run_gives(name: str, stages: str, image: Array, psf: Psf) -> None:
    """With the background, the start and the weight of the whole block, not of the region."""
    method, stack = METHODS[name], Stack(image, "CZYX")
    whole = restore_stack(stack, Recipe(psf, method, engine="cpu"))
    preview = Preview(stack, (1,), engine="cpu")
    assert preview.background == whole.record.blocks[1].background
    for region in REGIONS.values():
        assert off_by(ended(preview.frames(region, psf, method)), whole.stack.data[1]) < 1e-3


def test_a_trained_network_ends_where_its_run_ends(image: Array, psf: Psf) -> None:
    """By Wiener and the network on a small part, where the whole is much larger."""
    pytest.importorskip("torch")
    method, stack = TrainedModel(str(resolve("widefield_inverse"))), Stack(image[0], "ZYX")
    whole = restore_stack(stack, Recipe(psf, method, engine="cpu"))
    preview = Preview(stack, engine="cpu")
    frames = list(preview.frames(REGIONS["middle"], psf, restorer_of(method)))
    assert off_by(frames[-1], whole.stack.data) < 1e-5
    assert frames[-1].note == whole.record.blocks[0].stop_reason
    assert [frame.kind for frame in frames[:2]] == ["wiener", "refining"]
    assert frames[1].note.startswith("step 1 of ")
    small = [f for f in frames[1:] if f.kind == "refining" and f.data is not None][-1]
    assert small.data is not None
    assert frames[-1].data is not None
    likeness = np.corrcoef(small.data.ravel(), frames[-1].data.ravel())[0, 1]
    assert likeness > 0.9


def test_the_part_in_the_middle_is_not_the_whole(psf: Psf) -> None:
    """Or the test above would compare a run with itself."""
    for name in ("plain", "smooth and plain", "circular", "read noise"):
        halo = METHODS[name].halo(psf)
        for region in (REGIONS["middle"], REGIONS["border"]):
            assert needed_part(region, SHAPE, halo).shape != SHAPE


@pytest.mark.parametrize(
    ("axes", "block", "region"),
    [
        ("YX", (), Region((20, 3), (17, 22))),
        ("TYX", (1,), Region((0, 0), (81, 76))),
        ("TCYX", (1, 0), Region((40, 60), (20, 16))),
    ],
)
def test_planes_are_previewed_alike(
    axes: str, block: tuple[int, ...], region: Region, image: Array, asymmetric_psf: Make
) -> None:
    planes = {"YX": image[0, 5], "TYX": image[:, 5], "TCYX": image[:, 4:6]}[axes]
    stack, psf = Stack(planes, axes), Psf(asymmetric_psf((7, 6)))
    whole = restore_stack(stack, Recipe(psf, RichardsonLucy(15), engine="cpu"))
    last = ended(Preview(stack, block, engine="cpu").frames(region, psf, RichardsonLucy(15)))
    assert off_by(last, whole.stack.data[block]) < 1e-3


def test_the_background_is_that_of_the_first_time_point(image: Array, psf: Psf) -> None:
    movie = Stack(np.stack((image + 50, image)), "TCZYX")
    whole = restore_stack(movie, Recipe(psf, RichardsonLucy(3), engine="cpu"))
    preview = Preview(movie, (1, 0), engine="cpu")
    assert preview.background == whole.record.blocks[2].background
    last = ended(preview.frames(REGIONS["middle"], psf, RichardsonLucy(3)))
    assert off_by(last, whole.stack.data[1, 0]) < 1e-3


@pytest.mark.parametrize("shape", [(3, 20, 17), (1, 20, 17)])
def test_a_stack_smaller_than_the_region_is_a_run(
    shape: tuple[int, ...], photons: Make, psf: Psf
) -> None:
    stack = Stack(photons(shape), "ZYX")
    whole = restore_stack(stack, Recipe(psf, RichardsonLucy(8), engine="cpu"))
    region = region_around((1, 4, 4), shape)
    last = ended(Preview(stack, engine="cpu").frames(region, psf, RichardsonLucy(8)))
    assert np.array_equal(last.data, whole.stack.data)  # type: ignore[arg-type]
    assert last.divergences == whole.record.blocks[0].divergences
    assert last.note == whole.record.blocks[0].stop_reason


def test_every_engine_previews(engine: Engine, photons: Make, asymmetric_psf: Make) -> None:
    """On the shape of the contract's tests: a driver may compile for each new one."""
    stack, psf = Stack(photons((9, 12, 15)), "ZYX"), Psf(asymmetric_psf((3, 5, 4)))
    region = Region((2, 0, 4), (6, 9, 11))
    frames = {
        name: ended(Preview(stack, engine=name).frames(region, psf, RichardsonLucy(5)))
        for name in (engine.name, "cpu")
    }
    found, expected = (np.asarray(frames[name].data) for name in (engine.name, "cpu"))
    assert np.abs(found - expected).max() < 1e-4 * expected.max()


# -- on the way there --------------------------------------------------------------------


def test_richardson_lucy_comes_in_three_stages(
    image: Array, psf: Psf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previewing, "MARGIN", (2, 4, 4))
    monkeypatch.setattr(previewing, "QUICK_ITERATIONS", 4)
    monkeypatch.setattr(previewing, "PERIOD", 0.0)
    preview = Preview(Stack(image[0], "ZYX"), engine="cpu")
    frames = list(preview.frames(REGIONS["middle"], psf, RichardsonLucy(6)))
    assert [f.kind for f in frames] == ["wiener", *["refining"] * 9, "full"]
    assert [f.iterations for f in frames] == [1, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6]
    # No picture falls back behind one that was seen.
    assert [f.data is not None for f in frames] == [*[True] * 5, *[False] * 4, True, True]
    assert [len(f.divergences) for f in frames] == [0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6]
    assert frames[0].note.startswith("a first look: Wiener, regularization ")
    assert frames[3].note == "iteration 3 of 4"
    assert frames[-1].note == "stopped at the maximum of 6 iterations"
    for frame in pictures(iter(frames)):
        assert frame.data is not None
        assert frame.data.shape == frame.region.shape
        assert frame.data.base is None  # nothing larger is kept alive
        assert frame.data.min() >= 0


def test_pictures_come_no_more_often_than_can_be_seen(
    image: Array, psf: Psf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previewing, "PERIOD", 1e9)
    preview = Preview(Stack(image[0], "ZYX"), engine="cpu")
    shown = pictures(preview.frames(REGIONS["middle"], psf, RichardsonLucy(9)))
    assert [f.kind for f in shown] == ["wiener", "full"]


def test_the_first_stages_already_look_like_the_last(image: Array, psf: Psf) -> None:
    """Far more than the raw image does, on a part that is smaller than what is needed."""
    region = Region((2, 30, 30), (10, 16, 16))
    preview = Preview(Stack(image[0], "ZYX"), engine="cpu", background=20)
    wiener, *_, full = pictures(preview.frames(region, psf, RichardsonLucy(20)))

    def likeness(seen: Any) -> float:
        return float(np.corrcoef(np.ravel(seen), np.ravel(full.data))[0, 1])  # type: ignore[arg-type]

    assert likeness(image[0][region.slices]) < 0.87
    assert likeness(wiener.data) > 0.9


def test_wiener_first_takes_its_own_regularization(
    image: Array, psf: Psf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previewing, "MARGIN", (2, 4, 4))
    preview = Preview(Stack(image[0], "ZYX"), engine="cpu")
    first, last = preview.frames(REGIONS["middle"], psf, Wiener(0.0125))
    assert (first.kind, last.kind) == ("wiener", "full")
    assert first.note == "a first look: Wiener, regularization 0.013"
    assert last.note == "one step, regularization 0.0125"
    assert first.data is not None
    assert first.data.min() < 0  # as Wiener's result is, where it rings


def test_where_memory_is_short_the_last_frame_says_so(
    image: Array, psf: Psf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previewing, "MARGIN", (2, 4, 4))
    monkeypatch.setattr(previewing, "free_memory_bytes", lambda: 0)
    preview = Preview(Stack(image[0], "ZYX"), engine="cpu")
    for method in (RichardsonLucy(3), Wiener()):
        last = ended(preview.frames(REGIONS["middle"], psf, method))
        assert (last.kind, last.data) == ("refining", None)
        assert last.note.startswith("the full result here takes 0.0 GB more memory than is free")


# -- used again and again ----------------------------------------------------------------


@pytest.mark.parametrize("seen", [0, 1, 4, 12])
def test_a_preview_that_was_stopped_goes_on(
    seen: int, stages: str, image: Array, psf: Psf, asymmetric_psf: Make
) -> None:
    preview = Preview(Stack(image[0], "ZYX"), engine="cpu")
    stopped = preview.frames(REGIONS["corner"], Psf(asymmetric_psf((3, 9, 9))), RichardsonLucy(9))
    for _ in range(seen):
        next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    found = pictures(preview.frames(REGIONS["middle"], psf, RichardsonLucy(4)))
    fresh = Preview(Stack(image[0], "ZYX"), engine="cpu")
    expected = pictures(fresh.frames(REGIONS["middle"], psf, RichardsonLucy(4)))
    for one, other in ((found[0], expected[0]), (found[-1], expected[-1])):
        assert np.array_equal(one.data, other.data)  # type: ignore[arg-type]


def test_a_closed_preview_opens_again(
    image: Array, psf: Psf, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[CpuEngine] = []
    monkeypatch.setattr(CpuEngine, "release", lambda engine: released.append(engine))
    preview = Preview(Stack(image[0], "ZYX"), engine="cpu")
    preview.close()
    assert not released
    seen = []
    for _ in range(2):
        seen.append(ended(preview.frames(REGIONS["corner"], psf, RichardsonLucy(2))).data)
        preview.close()
    assert len({id(engine) for engine in released}) == 2
    assert np.array_equal(*seen)  # type: ignore[arg-type]


def test_nothing_grows_while_sliders_move(psf: Psf, asymmetric_psf: Make, photons: Make) -> None:
    """500 times another region, PSF and method, some of them stopped early."""
    preview = Preview(Stack(photons((6, 40, 40)), "ZYX"), engine="cpu", background=2)
    psfs = [psf, Psf(asymmetric_psf((3, 5, 5))), Psf(asymmetric_psf((7, 9, 9)))]
    methods: list[Classical] = [RichardsonLucy(2), Wiener(), RichardsonLucy(3, "none")]
    settings = list(product((0, 8, 16), psfs, methods))

    def move(times: int) -> None:
        for count in range(times):
            start, psf_, method = settings[count % len(settings)]
            frames = preview.frames(Region((0, start, 3), (6, 16, 16)), psf_, method)
            for seen, _ in enumerate(frames):
                if seen > count % 4:
                    break

    def held() -> int:
        gc.collect()  # empties the interpreter's own lists of freed tuples and floats too
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        move(108)  # once through all that is combined here
        before = held()
        move(432)
        after = held()
    finally:
        tracemalloc.stop()
    # One picture kept each time would be 2.6 MB, and one number for it 10 kB.
    assert after - before < 100_000


def test_a_lazy_stack_is_read_where_it_is_looked_at(image: Array, psf: Psf) -> None:
    read: list[Any] = []

    def chunk(block: Any, block_info: Any = None) -> Any:
        read.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(image, chunks=(1, 14, 27, 38)).map_blocks(
        chunk, dtype=float, meta=np.empty((0,) * 4)
    )
    stack = Stack(lazy, "CZYX")
    preview = Preview(stack, (1,), engine="cpu", background=20)
    region = Region((4, 56, 50), (6, 15, 16))
    frames = preview.frames(region, psf, RichardsonLucy(4))
    first = next(frames)
    assert set(read) <= {(1, 0, y, x) for y in (1, 2) for x in (0, 1)}
    eager = Preview(Stack(image, "CZYX"), (1,), engine="cpu", background=20)
    again = eager.frames(region, psf, RichardsonLucy(4))
    assert np.array_equal(first.data, next(again).data)  # type: ignore[arg-type]
    assert np.array_equal(ended(frames).data, ended(again).data)  # type: ignore[arg-type]
    assert {place[0] for place in read} == {1}


# -- regions, and what is refused --------------------------------------------------------


@pytest.mark.parametrize(
    ("centre", "block", "start", "shape"),
    [
        ((32, 128, 128), (64, 256, 256), (16, 64, 64), (32, 128, 128)),
        ((-5, 1e6, 127.9), (64, 256, 256), (0, 128, 63), (32, 128, 128)),
        ((3, 10, 10), (7, 100, 300), (0, 0, 0), (7, 100, 128)),
        ((200, 100), (256, 128), (128, 0), (128, 128)),
    ],
)
def test_a_region_stays_in_its_block(
    centre: Any, block: tuple[int, ...], start: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    assert region_around(centre, block) == Region(start, shape)


def test_a_region_needs_all_planes_and_whole_axes_at_an_end() -> None:
    block, region = (40, 200, 300), Region((9, 50, 250), (5, 20, 20))
    assert needed_part(region, block, (4, 10, 10)) == Region((0, 40, 240), (40, 40, 40))
    assert needed_part(region, block, (4, 50, 10)) == Region((0, 0, 240), (40, 200, 40))
    assert needed_part(region, block, (4, 10, 30)) == Region((0, 40, 0), (40, 40, 300))
    assert needed_part(region, block, (0, 10, 10)) == Region((9, 40, 240), (5, 40, 40))
    assert needed_part(region, block, None) == Region((0, 0, 0), block)
    assert needed_part(Region((50, 9), (5, 5)), (99, 99), (3, 3)) == Region((47, 6), (11, 11))


@pytest.mark.parametrize(
    ("start", "shape"),
    [((0,), (4,)), ((0, 0), (4, 4, 4)), ((-1, 0), (4, 4)), ((0, 0), (4, 0)), ((0, 0.5), (4, 4))],
)
def test_a_region_is_whole_numbers(start: Any, shape: Any) -> None:
    with pytest.raises(InputError, match="A region is a first voxel and a shape of two or three"):
        Region(start, shape)


@pytest.mark.parametrize("centre", [(1, 2), (1, 2, np.nan), (1, 2, np.inf)])
def test_a_centre_has_a_finite_number_an_axis(centre: Any) -> None:
    with pytest.raises(InputError, match="The centre of a region has 3 finite numbers here, not"):
        region_around(centre, (5, 6, 7))


@pytest.mark.parametrize("region", [Region((0, 0), (4, 4)), Region((0, 5, 0), (4, 8, 4))])
def test_a_region_outside_is_refused_before_anything_runs(region: Region, psf: Psf) -> None:
    preview = Preview(Stack(np.ones((5, 12, 14)), "ZYX"), engine="cpu")
    with pytest.raises(InputError, match=r"does not lie in the image of \(5, 12, 14\) voxels"):
        preview.frames(region, psf, Wiener())


def test_what_cannot_be_previewed_is_refused(psf: Psf) -> None:
    stack = Stack(np.ones((2, 5, 12, 14)), "CZYX")
    with pytest.raises(InputError, match=r"The stack CZYX has no block \(2,\)"):
        Preview(stack, (2,))
    with pytest.raises(InputError, match="The background"):
        Preview(stack, (0,), background=np.nan)
    with pytest.raises(InputError, match="The image is complex"):
        Preview(Stack(np.ones((5, 12, 14)) * 1j, "ZYX"))
    stack.data[0, 4, 11, 13] = np.nan
    region = Region((0, 0, 0), (5, 12, 14))
    with pytest.raises(InputError, match="The image holds 1 NaN"):
        next(Preview(stack, (0,), engine="cpu").frames(region, psf, Wiener()))
    large = np.ones((5, 200, 200))
    large[4, 199, 199] = np.inf
    far = Preview(Stack(large, "ZYX"), engine="cpu", background=0)
    with pytest.raises(InputError, match="The image holds NaN or infinite values"):
        ended(far.frames(Region((0, 9, 9), (5, 12, 14)), psf, RichardsonLucy(2)))


def test_a_dark_region_is_dark(psf: Psf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The light in a far corner is not on the small part, and changes nothing on the large."""
    monkeypatch.setattr(previewing, "MARGIN", (2, 4, 4))
    block = np.zeros((5, 60, 60))
    block[2, 59, 59] = 100
    preview = Preview(Stack(block, "ZYX"), engine="cpu", background=0)
    frames = list(pictures(preview.frames(Region((0, 6, 6), (5, 6, 6)), psf, RichardsonLucy(5))))
    assert [frame.kind for frame in frames] == ["wiener", "refining", "full"]
    assert all(frame.data is not None and frame.data.max() < 1e-9 for frame in frames)
