"""The element-wise expressions of methods, for the engines that evaluate them in Python."""

from __future__ import annotations

import ast
import re
from functools import cache
from types import CodeType


@cache
def compiled(expression: str) -> CodeType:
    """Compile an expression of ours."""
    return compile(parsed(expression), expression, "eval")


@cache
def parsed(expression: str) -> ast.Expression:
    """Parse an expression of ours; OpenCL's float literals (`0.1f`) become Python's."""
    return ast.parse(re.sub(r"(\d\.\d*)f\b", r"\1", expression), mode="eval")
