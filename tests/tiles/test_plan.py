"""Tiles: they cover a block once, they fit, and no cheaper ones do."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from napari_deconv.imaging.region import Region
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.blur import work_shape
from napari_deconv.tiles.cuts import Shape
from napari_deconv.tiles.plan import LEAST_KEEP, BytesOf, Tile, TilePlan, plan_tiles, split

GIB = 2**30


@dataclass(frozen=True)
class Problem:
    """A block, its halo and its PSF; 20 bytes a voxel of work and 8 a voxel kept."""

    shape: Shape
    halo: Shape
    psf: Shape
    edges: str = "non-circulant"
    most_chunk: Shape = (32, 256, 256)

    def work(self, read: Shape) -> Shape:
        return work_shape(read, self.psf, self.edges)

    def bytes_of(self, read: Shape, keep: Shape) -> int:
        return 20 * math.prod(self.work(read)) + 8 * math.prod(keep)

    @property
    def whole_bytes(self) -> int:
        return self.bytes_of(self.shape, self.shape)

    def plan(self, budget: float, bytes_of: BytesOf | None = None) -> TilePlan:
        return plan_tiles(
            self.shape,
            self.halo,
            work_shape=self.work,
            bytes_of=bytes_of or self.bytes_of,
            budget_bytes=int(budget),
            most_chunk=self.most_chunk,
        )

    def voxels(self, plan: TilePlan) -> int:
        return sum(math.prod(self.work(tile.read.shape)) for tile in plan.tiles())


@st.composite
def problems(draw: st.DrawFn, longest: int = 90) -> Problem:
    """Draw axes of one voxel, primes, halos longer than the axis, PSFs of one voxel."""
    ndim = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, longest)) for _ in range(ndim))
    halo = tuple(draw(st.one_of(st.integers(0, 9), st.integers(0, 2 * n))) for n in shape)
    psf = tuple(draw(st.integers(1, 21)) for _ in range(ndim))
    edges = draw(st.sampled_from(["non-circulant", "circular"]))
    most_chunk = tuple(draw(st.integers(1, 70)) for _ in range(3))
    return Problem(shape, halo, psf, edges, most_chunk)


@st.composite
def planned(draw: st.DrawFn, longest: int = 90) -> tuple[Problem, int, TilePlan]:
    """Draw a problem with the memory for a part of it, and its plan."""
    problem = draw(problems(longest))
    budget = int(draw(st.floats(0.02, 1.1)) * problem.whole_bytes)
    try:
        plan = problem.plan(budget)
    except InputError:
        reject()
    return problem, budget, plan


def grown(keep: Region, halo: Shape, shape: Shape) -> Region:
    """Return what a tile has to read; written out anew."""
    bounds = [
        (max(0, first - h), min(n, first + length + h))
        for first, length, h, n in zip(keep.start, keep.shape, halo, shape, strict=True)
    ]
    return Region(tuple(a for a, _ in bounds), tuple(b - a for a, b in bounds))


@settings(deadline=None)
@given(planned())
def test_every_voxel_is_kept_once(case: tuple[Problem, int, TilePlan]) -> None:
    problem, _, plan = case
    painted = np.zeros(problem.shape, np.uint8)
    for tile in plan.tiles():
        painted[tile.keep.slices] += 1
    assert (painted == 1).all()


@settings(deadline=None)
@given(planned())
def test_a_tile_reads_its_halo_and_fits(case: tuple[Problem, int, TilePlan]) -> None:
    problem, budget, plan = case
    assert plan.bytes <= budget
    tiles = list(plan.tiles())
    for tile in tiles:
        assert tile.read == grown(tile.keep, problem.halo, problem.shape)
        assert problem.bytes_of(tile.read.shape, tile.keep.shape) <= plan.bytes
    assert [plan.tile(i) for i in range(len(plan))] == tiles
    assert [tile.keep.start for tile in tiles] == sorted(tile.keep.start for tile in tiles)


@settings(deadline=None)
@given(planned())
def test_no_two_tiles_share_a_chunk(case: tuple[Problem, int, TilePlan]) -> None:
    problem, _, plan = case
    owners = np.full(plan.shape, -1)
    for number, tile in enumerate(plan.tiles()):
        owners[tile.keep.slices] = number
    starts = [range(0, n, chunk) for n, chunk in zip(plan.shape, plan.chunks, strict=True)]
    for start in product(*starts):
        place = tuple(slice(a, a + chunk) for a, chunk in zip(start, plan.chunks, strict=True))
        assert len(np.unique(owners[place])) == 1
    most = problem.most_chunk[-len(plan.chunks) :]
    assert all(chunk <= m for chunk, m in zip(plan.chunks, most, strict=True))


@settings(deadline=None)
@given(planned())
def test_the_work_is_the_sum_over_the_tiles(case: tuple[Problem, int, TilePlan]) -> None:
    problem, _, plan = case
    volumes = [math.prod(problem.work(tile.read.shape)) for tile in plan.tiles()]
    whole = math.prod(problem.work(problem.shape))
    assume(whole > 1)
    expected = sum(v * math.log2(v) for v in volumes) / (whole * math.log2(whole))
    assert plan.work(problem.work) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(problems())
def test_what_fits_is_one_tile(problem: Problem) -> None:
    plan = problem.plan(problem.whole_bytes)
    whole = Region((0,) * len(problem.shape), problem.shape)
    assert list(plan.tiles()) == [Tile(whole, whole)]
    assert plan.work(problem.work) == pytest.approx(1, rel=1e-12)
    assert plan.bytes == problem.whole_bytes


@settings(deadline=None)
@given(planned(), st.floats(1, 3))
def test_more_memory_never_means_more_work(
    case: tuple[Problem, int, TilePlan], factor: float
) -> None:
    problem, budget, plan = case
    # The whole block is one tile even where tiles happen on faster lengths and take less.
    larger = min(int(factor * budget), problem.whole_bytes - 1)
    assume(len(plan) > 1 and budget <= larger)
    assert problem.voxels(problem.plan(larger)) <= problem.voxels(plan)


@settings(deadline=None)
@given(problems(60), st.floats(0.02, 1))
def test_no_equal_parts_that_fit_are_cheaper(problem: Problem, fraction: float) -> None:
    # Without chunks to round to, and without the small memory of what is kept: with it, a cut
    # whose reads are shorter is taken for the better one although it keeps more.
    problem = replace(problem, most_chunk=(99,) * 3)
    budget = int(fraction * math.prod(problem.work(problem.shape))) - 1

    def bytes_of(read: Shape, keep: Shape) -> int:
        return math.prod(problem.work(read))

    try:
        found = problem.voxels(problem.plan(budget, bytes_of))
    except InputError:
        reject()
    least = LEAST_KEEP[-len(problem.shape) :]
    parts = [
        {-(-n // count) for count in range(1, n + 1)} & {*range(min(n, low), n + 1)}
        for n, low in zip(problem.shape, least, strict=True)
    ]
    for keep in product(*parts):
        other = TilePlan(problem.shape, problem.halo, keep, keep, 0)
        if all(bytes_of(tile.read.shape, keep) <= budget for tile in other.tiles()):
            assert found <= problem.voxels(other)


@settings(deadline=None)
@given(problems())
def test_the_refusal_names_an_amount_that_suffices(problem: Problem) -> None:
    def bytes_of(read: Shape, keep: Shape) -> int:
        return 10**5 * problem.bytes_of(read, keep)

    with pytest.raises(InputError, match=r"crop the PSF .* looser seam") as refused:
        problem.plan(0, bytes_of=bytes_of)
    asked = re.search(r"at least (\d+\.\d\d) GB", str(refused.value))
    assert asked
    named = round(float(asked[1]) * 1e9)
    assert problem.plan(named, bytes_of=bytes_of).bytes <= named
    # ... and it is no more than that, to the two digits that are told.
    with pytest.raises(InputError):
        problem.plan(named - 10**7, bytes_of=bytes_of)


@settings(deadline=None)
@given(planned())
def test_halves_cover_a_tile_and_read_less(case: tuple[Problem, int, TilePlan]) -> None:
    problem, _, plan = case
    tile = plan.tile(len(plan) // 2)
    painted = np.zeros(problem.shape, np.uint8)
    waiting, done = [tile], 0
    while waiting and done < 50:
        one = waiting.pop()
        try:
            halves = split(one, problem.halo, problem.shape)
        except InputError:
            painted[one.keep.slices] += 1
            done += 1
            continue
        for half in halves:
            assert half.read == grown(half.keep, problem.halo, problem.shape)
            assert math.prod(half.read.shape) < math.prod(one.read.shape)
        waiting += halves
    for one in waiting:
        painted[one.keep.slices] += 1
    assert (painted[tile.keep.slices] == 1).all()
    assert painted.sum() == math.prod(tile.keep.shape)


def test_a_tile_is_cut_where_it_reads_least() -> None:
    shape, halo = (50, 400, 400), (40, 10, 10)
    whole = Region((0, 0, 0), (50, 400, 390))
    first, second = split(Tile(whole.grown(halo, shape), whole), halo, shape)
    assert first.keep == Region((0, 0, 0), (50, 200, 390))
    assert second.keep == Region((0, 200, 0), (50, 200, 390))
    assert second.read == Region((0, 190, 0), (50, 210, 400))


def test_one_voxel_is_not_cut() -> None:
    one = Region((3, 3), (1, 1))
    with pytest.raises(InputError, match=r"5 x 5 voxels.*2 x 2 voxels on each side"):
        split(Tile(one.grown((2, 2), (9, 9)), one), (2, 2), (9, 9))


@pytest.mark.parametrize("gib", [0.3, 1, 4, 64])
def test_ten_million_tiles_are_planned_in_no_time(gib: float) -> None:
    problem = Problem((4001, 40009, 40000), (32, 64, 64), (33, 65, 65))
    problem.plan(64 * GIB)  # scipy is loaded
    started = time.process_time()
    plan = problem.plan(gib * GIB)
    last = plan.tile(len(plan) - 1)
    plan.work(problem.work)
    assert time.process_time() - started < 2  # some 0.2 s; ten times as long is a mistake
    stop = [a + n for a, n in zip(last.keep.start, last.keep.shape, strict=True)]
    assert tuple(stop) == plan.shape
    # Along each axis the tiles follow each other from end to end.
    strides = [math.prod(plan.counts[axis + 1 :]) for axis in range(3)]
    for axis, (count, stride) in enumerate(zip(plan.counts, strides, strict=True)):
        tiles = [plan.tile(i * stride).keep for i in range(count)]
        for a, b in pairwise(tiles):
            assert b.start[axis] == a.start[axis] + a.shape[axis]
        assert sum(tile.shape[axis] for tile in tiles) == plan.shape[axis]
        # The last of a few is no sliver.
        assert tiles[-1].shape[axis] > 0.4 * plan.keep[axis] or count > 20
    with pytest.raises(IndexError):
        plan.tile(len(plan))


def test_a_plan_that_a_person_can_check() -> None:
    """A light-sheet stack on a GPU of 2 GiB: z whole, as half of it would read 160 of 256."""
    problem = Problem((256, 4096, 8192), (32, 64, 64), (33, 65, 65))
    plan = problem.plan(2 * GIB)
    assert plan.counts == (1, 11, 20)
    assert plan.keep == (256, 380, 416)
    assert plan.chunks == (32, 190, 208)
    # An inner tile works on 576 = 416 + 2 * 64 + 32 without a voxel of padding.
    assert problem.work(plan.tile(plan.counts[2] + 1).read.shape) == (280, 540, 576)
    assert plan.work(problem.work) == pytest.approx(1.41, abs=0.01)


def test_an_axis_within_the_halo_is_not_cut() -> None:
    problem = Problem((60, 2048, 2048), (256, 60, 60), (31, 31, 31))
    assert problem.plan(GIB).counts == (1, 3, 4)


def test_a_plan_is_kept_as_json_and_checked() -> None:
    plan = Problem((60, 700, 500), (5, 20, 20), (11, 21, 21)).plan(10**8)
    assert TilePlan.from_json(plan.to_json()) == plan
    tile = plan.tile(1)
    assert Tile.from_json(tile.to_json()) == tile
    for wrong in ({"chunks": [60, 7, 7]}, {"halo": [5, 20]}, {"keep": [60, 0, 500]}):
        with pytest.raises(InputError, match="do not divide a block"):
            TilePlan.from_dict({**plan.to_dict(), **wrong})
