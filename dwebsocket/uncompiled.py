"""Stands in for the module ``cython`` where that isn't installed.

The hot path is compiled from its Python source, which asks ``cython.compiled`` where
C has a shorter way.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["compiled"]

compiled: Literal[False] = False
