"""A moment of fuzzing, see ``tests.fuzz``; and the targets without the fuzzer."""

from __future__ import annotations

import platform
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .fuzz_targets import SEEDS, TARGETS

#: How many inputs take about a second.
RUNS = {"deflate": 4000, "frames": 12_000, "handshake": 4000, "protocol": 1500}

every_target = pytest.mark.parametrize("target", sorted(TARGETS))
#: Where there are wheels of atheris: the ``test`` extra of setup.cfg.
with_fuzzer = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="there is no atheris for this platform",
)


def fuzz(target: str, directory: Path, *arguments: str) -> tuple[int, str]:
    """Return the exit status and the output."""
    command = [sys.executable, "-m", "tests.fuzz", target, *arguments]
    options = ["-max_len=1000", "-rss_limit_mb=512", "-timeout=60", "-seed=1"]
    process = subprocess.run(
        [*command, *options, f"-artifact_prefix={directory}/"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=240,
    )
    return process.returncode, process.stdout + process.stderr


@every_target
def test_seeds_and_changed_seeds(target: str) -> None:
    rng = random.Random(1)
    for seed in SEEDS[target]:
        TARGETS[target](seed)
        for _ in range(20):
            data = bytearray(seed)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            TARGETS[target](bytes(data))
            TARGETS[target](bytes(data[: rng.randrange(len(data))]))
    TARGETS[target](b"")


@with_fuzzer
@every_target
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    limits = (f"-runs={RUNS[target]}", "-max_total_time=5")
    status, output = fuzz(target, tmp_path, *limits)
    assert status == 0, output
    # Coverage leads: some inputs were new and are kept.
    assert re.search(r"Done [1-9]\d* runs", output), output
    assert re.search(r"NEW +cov: ", output), output


@with_fuzzer
def test_a_fault_is_found(tmp_path: Path) -> None:
    status, output = fuzz("canary", tmp_path, "-runs=1000000")
    assert status != 0
    assert "AssertionError: found" in output
    (crash,) = tmp_path.iterdir()
    assert crash.read_bytes().startswith(b"fuzz")
    status, output = fuzz("canary", tmp_path, str(crash))
    assert status != 0
    assert "AssertionError: found" in output
