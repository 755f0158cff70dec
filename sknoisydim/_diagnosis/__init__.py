"""From held-out rows to a report: what was measured, what it means, and what to change."""

from __future__ import annotations

from ._mixin import Diagnosis

__all__ = ["Diagnosis"]
