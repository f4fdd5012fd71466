"""The passes of a fast Fourier transform along an axis, written down as OpenCL kernels.

A transform of n = r1 r2 ... points is done in as many passes over memory (the decimation in time of
Cooley and Tukey, Math. Comp. 1965), each of which transforms groups of r points within a work
item. In the order of Stockham (Cochran et al., Proc. IEEE 1967) no pass has to sort, but none
can write to where it reads. Lengths of any factors work; those without a prime above 13 are fast.
"""

from __future__ import annotations

import math
from functools import cache

#: Points that a work item holds at the most, and the largest prime written out in full.
MOST_POINTS, LARGEST_PRIME = 16, 13

#: OpenCL has no complex numbers.
TIMES = """
float2 times(float2 a, float2 b) {
  return (float2)(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}"""
# Axis of n points, `inner` points apart, in `lines` volumes. `s` points are transformed already;
# w holds exp(2 pi i k / n), of which every `turn`-th is wanted.
_ARGUMENTS = (
    "__global const float2* x, __global float2* o, __global const float2* w, "
    "int n, int s, int turn, int inner, int lines"
)
# Where neighbours in memory are of other lines, they are neighbouring work items as well.
_ACROSS = """
  const int i = get_global_id(0), j = get_global_id(1), line = get_global_id(2);
  if (i >= inner) return;"""
_ALONG = """
  const int i = 0, j = get_global_id(0) % groups, line = get_global_id(0) / groups;
  if (line >= lines) return;"""


def factors(n: int) -> list[int]:
    """Return the prime factors, the smallest first.

    Examples
    --------
    >>> factors(270)
    [2, 3, 3, 3, 5]
    """
    for p in range(2, math.isqrt(n) + 1):
        if n % p == 0:
            return [p, *factors(n // p)]
    return [n] if n > 1 else []


@cache
def radices(n: int) -> tuple[int, ...]:
    """Return the points that each pass transforms: as few passes as there can be, then as even.

    Examples
    --------
    >>> radices(270), radices(256), radices(34)
    ((5, 6, 9), (16, 16), (2, 17))
    """
    large = [p for p in factors(n) if p > LARGEST_PRIME]
    small = n // math.prod(large)
    found = [] if small == 1 else _splits(small, MOST_POINTS)
    best = min(found, key=lambda split: (len(split), sum(split)), default=())
    return (*best, *large)


def _splits(n: int, most: int) -> list[tuple[int, ...]]:
    """Return the ways to write n as factors that do not grow, the largest `most`, reversed."""
    if n == 1:
        return [()]
    chosen = (r for r in range(2, most + 1) if n % r == 0)
    return [(*rest, r) for r in chosen for rest in _splits(n // r, r)]


@cache
def pass_source(radix: int, *, back: bool, across: bool, first: bool) -> str:
    """Return the kernel `turned` that transforms groups of `radix` points.

    Parameters
    ----------
    radix : int
        One of `radices`.
    back : bool
        From the spectrum, not normalised.
    across : bool
        Whether other lines lie between the points of a line.
    first : bool
        Whether it is the first pass of its axis, which turns no point.
    """
    sign = 1 if back else -1
    written = _dense(radix, sign) if radix > LARGEST_PRIME and _is_prime(radix) else ""
    body = written or _written_out(radix, sign, first=first)
    return f"""{TIMES}
__kernel void turned({_ARGUMENTS}) {{
  const int groups = n / {radix};{_ACROSS if across else _ALONG}
  const int q = j % s;
  const size_t from = ((size_t)line * n + j) * inner + i, step = (size_t)groups * inner;
  const size_t to = ((size_t)line * n + (j - q) * {radix} + q) * inner + i;
  const size_t next = (size_t)s * inner;
{body}
}}"""


def _is_prime(n: int) -> bool:
    return len(factors(n)) == 1


def _dense(radix: int, sign: int) -> str:
    """Return the sums of a transform of any length, point by point."""
    return f"""
  for (int k = 0; k < {radix}; ++k) {{
    const int by = (q * turn + (long)k * groups) % n;
    float2 sum = 0.0f, lost = 0.0f;
    for (int m = 0, at = 0; m < {radix}; ++m, at = (at + by) % n) {{
      const float2 term = times(x[from + m * step], (float2)(w[at].x, {sign} * w[at].y)) - lost;
      const float2 more = sum + term;
      lost = (more - sum) - term;
      sum = more;
    }}
    o[to + k * next] = sum;
  }}"""


def _written_out(radix: int, sign: int, *, first: bool) -> str:
    points = [f"x[from + {m} * step]" for m in range(radix)]
    lines = turned_points(points, sign, None if first else "q * turn")
    code = Code(sign)
    results = code.transformed([f"a{m}" for m in range(radix)])
    lines += code.lines
    lines += [f"o[to + {k} * next] = {result};" for k, result in enumerate(results)]
    return "\n".join(f"  {line}" for line in lines)


def turned_points(points: list[str], sign: int, by: str | None) -> list[str]:
    """Return statements that name points a0, a1, ..., the m-th turned by w[m * by]."""
    lines = []
    for m, point in enumerate(points):
        if m and by is not None:
            lines.append(f"const float2 w{m} = w[{m} * {by}];")
            point = f"times({point}, (float2)(w{m}.x, {sign} * w{m}.y))"
        lines.append(f"const float2 a{m} = {point};")
    return lines


class Code:
    """Statements of a small transform, each of which names a value.

    Parameters
    ----------
    sign : int
        Of the exponent.
    """

    def __init__(self, sign: int) -> None:
        self.lines: list[str] = []
        self._sign = sign

    def transformed(self, points: list[str]) -> list[str]:
        """Return the names of the transform of the points of these names."""
        length = len(points)
        if length == 1:
            return points
        if _is_prime(length):
            return self._of_prime(points)
        many = 4 if length % 4 == 0 and length > 4 else factors(length)[-1]
        few = length // many
        inner = [self.transformed(points[start::few]) for start in range(few)]
        results = [""] * length
        for k in range(many):
            column = [self._turned(inner[start][k], start * k, length) for start in range(few)]
            results[k::many] = self.transformed(column)
        return results

    def _of_prime(self, points: list[str]) -> list[str]:
        """Return it for a prime length: cosines of the sums and sines of the differences."""
        length, first = len(points), points[0]
        if length == 2:
            return [self._named(f"{first} + {points[1]}"), self._named(f"{first} - {points[1]}")]
        mates = [(points[m], points[length - m]) for m in range(1, (length + 1) // 2)]
        sums = [self._named(f"{a} + {b}") for a, b in mates]
        differences = [self._named(f"{a} - {b}") for a, b in mates]
        results = [self._named(" + ".join([first, *sums]))] + [""] * (length - 1)
        for k in range(1, len(mates) + 1):
            angles = [2 * math.pi * k * (m + 1) / length for m in range(len(mates))]
            cosines = [f"{_number(math.cos(a))} * {s}" for a, s in zip(angles, sums, strict=True)]
            sines = [
                f"{_number(self._sign * math.sin(a))} * {d}"
                for a, d in zip(angles, differences, strict=True)
            ]
            even = self._named(" + ".join([first, *cosines]))
            odd = self._named(" + ".join(sines))
            results[k] = self._named(f"(float2)({even}.x - {odd}.y, {even}.y + {odd}.x)")
            results[length - k] = self._named(f"(float2)({even}.x + {odd}.y, {even}.y - {odd}.x)")
        return results

    def _turned(self, name: str, part: int, whole: int) -> str:
        """Return the name of the value times exp(+-2 pi i part / whole)."""
        quarters, rest = divmod(4 * (self._sign * part % whole), whole)
        if rest == 0:
            turns = ("{0}", "(float2)(-{0}.y, {0}.x)", "-{0}", "(float2)({0}.y, -{0}.x)")
            return name if quarters == 0 else self._named(turns[quarters].format(name))
        angle = 2 * math.pi * self._sign * part / whole
        factor = f"(float2)({_number(math.cos(angle))}, {_number(math.sin(angle))})"
        return self._named(f"times({name}, {factor})")

    def _named(self, value: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"const float2 {name} = {value};")
        return name


def _number(value: float) -> str:
    return f"({value:.9e}f)"
