"""Transforms of whole lines by work items that share fast memory, as OpenCL kernels.

A GPU does arithmetic many times faster than it reads its memory. So the passes of a transform
(`fourier_passes`) are done one after the other in the memory that a group of work items shares:
the volume is read and written once an axis, and not once a pass (Govindaraju et al., SC 2008).
A CPU has no such memory, and its caches do the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from textwrap import dedent, indent

from .fourier_passes import MOST_POINTS, TIMES, Code, radices, turned_points

#: Complex values that a group shares, which any GPU has room for; and as many as are enough.
MOST_SHARED, ENOUGH_SHARED = 4096, 2048
#: Lines side by side in a group: fewer would read less than memory gives at a time, and more gain
#: nothing. And work items of a group.
FEWEST_LINES, MOST_LINES, MOST_ITEMS = 4, 16, 256
#: Values after which one place is left free, so that items do not wait for the same bank of memory.
SKEW = 16

#: All items have written before one reads what others wrote, and read before one writes over it.
_WAIT = "barrier(CLK_LOCAL_MEM_FENCE);\n"


@dataclass(frozen=True)
class Grouping:
    """How lines are dealt out to groups.

    Parameters
    ----------
    points : int
        Of a line.
    across : bool
        Whether other lines lie between the points of a line.
    lines, items : int
        Of a group: its lines, and the work items that transform them.
    """

    points: int
    across: bool
    lines: int
    items: int

    @property
    def pitch(self) -> int:
        """Places of a line in the shared memory; between its points lie those of others."""
        return self.points if self.across else self.points + self.points // SKEW + 1


@cache
def grouping(points: int, *, across: bool) -> Grouping | None:
    """Return how lines are dealt out; None where passes over memory do as well.

    Examples
    --------
    >>> grouping(512, across=True)
    Grouping(points=512, across=True, lines=8, items=256)
    >>> grouping(13, across=True), grouping(2 * 31, across=True)
    (None, None)
    """
    steps = radices(points)
    if len(steps) < 2 or max(steps) > MOST_POINTS:
        return None
    lines = MOST_LINES
    one = Grouping(points, across, 1, 0)
    while one.pitch * lines > (ENOUGH_SHARED if lines > MOST_LINES // 2 else MOST_SHARED):
        lines //= 2
    if lines < FEWEST_LINES:
        return None
    # As many as there are small transforms at a time, in bundles of 32.
    items = -(-points * lines // (32 * min(steps))) * 32
    return replace(one, lines=lines, items=min(items, MOST_ITEMS))


@cache
def lines_source(group: Grouping, *, back: bool) -> str:
    """Return the kernel `turned` that transforms lines; back from the spectrum, not normalised."""
    return _Lines(group, 1 if back else -1).source()


@dataclass(frozen=True)
class _Lines:
    """The text of a kernel; `sign` is that of the exponent."""

    group: Grouping
    sign: int

    def source(self) -> str:
        done, steps = 1, []
        for radix in radices(self.group.points):
            steps.append(self._step(radix, done))
            done *= radix
        return f"""{TIMES}
__kernel void turned(__global const float2* x, __global float2* o, __global const float2* w,
                     int inner, int lines) {{
  __local float2 shared[{self.group.pitch * self.group.lines}];
  const int item = get_local_id(0), from = get_group_id(0) * {self.group.lines};
  const size_t volume = get_global_id(2);
{indent(_WAIT.join(steps), "  ")}}}"""

    def _step(self, radix: int, done: int) -> str:
        """Return the code of all transforms of `radix` points, when `done` are transformed."""
        count = self.group.points // radix * self.group.lines
        turns = range(-(-count // self.group.items))
        read = "".join(self._read(radix, done, turn) for turn in turns)
        written = "".join(self._written(radix, done, turn) for turn in turns)
        is_within = done > 1 and done * radix < self.group.points
        return "{\n" + indent(read + _WAIT * is_within + written, "  ") + "}\n"

    def _read(self, radix: int, done: int, turn: int) -> str:
        """Return the code in which a work item reads the points of a small transform, and does it.

        It is the one of number b, of the j-th points of line c.
        """
        each, points = self.group.points // radix, []
        for m in range(radix):
            at = self._at(turn, f"j{turn} + {m * each}", shared=done > 1)
            points.append(f"(on{turn} ? {at} : (float2)(0.0f))")
        by = f"q{turn} * {self.group.points // (done * radix)}" if done > 1 else None
        code = Code(self.sign)
        results = code.transformed([f"a{m}" for m in range(radix)])
        lines = turned_points(points, self.sign, by) + code.lines
        lines += [f"v{turn}_{k} = {result};" for k, result in enumerate(results)]
        b, c, j, n = f"b{turn}", f"c{turn}", f"j{turn}", self.group.lines
        place = (
            (f"{b} % {n}", f"{b} / {n}")
            if self.group.across
            else (f"{b} / {each}", f"{b} % {each}")
        )
        head = f"""\
            const int {b} = item + {turn * self.group.items}, {c} = {place[0]}, {j} = {place[1]};
            const int q{turn} = {j} % {done};
            const bool on{turn} =
              {b} < {each * n} && from + {c} < {"inner" if self.group.across else "lines"};
            float2 {", ".join(f"v{turn}_{k}" for k in range(radix))};
            """
        return dedent(head) + "{\n" + indent("\n".join(lines), "  ") + "\n}\n"

    def _written(self, radix: int, done: int, turn: int) -> str:
        """Return the code in which a work item writes the results of a small transform."""
        lines = []
        for k in range(radix):
            point = f"(j{turn} - q{turn}) * {radix} + q{turn} + {k * done}"
            at = self._at(turn, point, shared=done * radix < self.group.points, memory="o")
            lines.append(f"  {at} = v{turn}_{k};\n")
        return f"if (on{turn}) {{\n{''.join(lines)}}}\n"

    def _at(self, turn: int, point: str, *, shared: bool, memory: str = "x") -> str:
        """Return the value at a point of a line, in the shared memory or in the volume's."""
        lines, points = self.group.lines, self.group.points
        if shared and self.group.across:
            return f"shared[({point}) * {lines} + c{turn}]"
        if shared:
            return f"shared[c{turn} * {self.group.pitch} + ({point}) + ({point}) / {SKEW}]"
        if self.group.across:
            return f"{memory}[(volume * {points} + {point}) * inner + from + c{turn}]"
        return f"{memory}[(size_t)(from + c{turn}) * {points} + {point}]"
