"""Steps of a filter that are nothing but others, one after the other."""

from __future__ import annotations

from typing import Any

from napari_deconv.restoration.engine import Array, Engine, Filter


class Composed(Filter):
    """A filter to which an expression in a filter is two steps; see `restoration.engine.Filter`."""

    engine: Engine

    def forward_of(self, expression: str, operands: dict[str, Any], /, *, out: Array) -> Array:
        """Return an expression filtered, which is left in `out`."""
        x = self.engine.evaluate(expression, out=out, **operands)
        operands.clear()
        return self.forward(x)

    def adjoint_of(
        self, expression: str, summed: str, operands: dict[str, Any], /, *, out: Array | None
    ) -> tuple[Array, float]:
        """Return an expression filtered with the conjugate, and the sum of another."""
        total = self.engine.total(summed, **operands)
        made = self.engine.evaluate(expression, out=out, **operands)
        operands.clear()
        return self.adjoint(made), total
