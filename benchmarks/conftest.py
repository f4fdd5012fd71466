"""Lets benchmarks that pytest collects import those beside them, as scripts do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
