"""The element-wise expressions of methods, as Python: for the engines that evaluate them there."""

from __future__ import annotations

import re
from functools import cache
from types import CodeType


@cache
def compiled(expression: str) -> CodeType:
    """Compile an expression of ours; OpenCL's float literals (`0.1f`) become Python's."""
    return compile(re.sub(r"(\d\.\d*)f\b", r"\1", expression), expression, "eval")
