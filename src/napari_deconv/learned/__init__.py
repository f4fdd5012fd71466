"""Trained networks: their architectures, the pairs they learn from, training, and their files.

torch is imported in this folder and where engines work with it (`torch_engine.py`,
`torch_filter.py`, `fused.py`), nowhere else. A network that is trained restores as any method
does: `learned.network.Learned` is a `Restorer`.
"""
