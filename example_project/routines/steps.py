"""The routines: what there is to do, and for how many seconds."""

from __future__ import annotations

ROUTINES = {
    "break": (
        "A short break",
        [
            ("Stand up", 5),
            ("Stretch your arms", 15),
            ("Roll your shoulders", 15),
            ("Look into the distance", 20),
            ("Breathe in", 4),
            ("Breathe out", 6),
            ("Shake out your hands", 10),
        ],
    ),
}


def measure(routine: str) -> float:
    """Return how many seconds a routine takes."""
    return sum(seconds for _, seconds in ROUTINES[routine][1])
