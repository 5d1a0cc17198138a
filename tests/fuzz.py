"""The coverage-guided fuzzer: ``python -m tests.fuzz TARGET [options of libFuzzer]``.

``test_fuzz`` runs it for a moment, ``make fuzz`` for longer and keeps what it learns.
With a file for an option it runs that once, to see again what failed.  Targets are
those of ``tests.fuzz_targets``, and ``canary``, which has a fault to be found.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import atheris


def canary(data: bytes) -> None:
    """Fail for one input in 2 ** 32, which only coverage leads to."""
    if data[:1] == b"f":
        if data[1:2] == b"u":
            if data[2:3] == b"z":
                assert data[3:4] != b"z", "found"


def main() -> None:
    program, target, *arguments = sys.argv
    # What is compiled has no coverage to be led by.
    os.environ["DWEBSOCKET_PURE"] = "1"
    with atheris.instrument_imports(include=["dwebsocket"]):
        from . import fuzz_targets
    run = fuzz_targets.TARGETS.get(target)
    if run is None:
        assert target == "canary"
        run = atheris.instrument_func(canary)
    with tempfile.TemporaryDirectory(prefix="dwebsocket-fuzz-") as directory:
        for i, seed in enumerate(fuzz_targets.SEEDS.get(target, [])):
            Path(directory, str(i)).write_bytes(seed)
        if not any(Path(argument).is_file() for argument in arguments):
            arguments.append(directory)
        atheris.Setup([program, *arguments], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
