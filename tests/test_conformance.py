"""The tables in ``docs/conformance.rst``: their tests exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Section, sentence and tests of each row but the headers.
ROWS = [
    re.split(r"\n {5}- ", row)
    for table in (ROOT / "docs" / "conformance.rst").read_text().split("\n\n")
    for row in f"\n{table}".split("\n   * - ")[1:]
    if not row.startswith("Section\n")
]


@cache
def names_in(path: str) -> set[str]:
    """Return the names of a module's tests."""
    tree = ast.parse((ROOT / path).read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_the_tables_are_read() -> None:
    assert len(ROWS) > 60
    assert all(len(row) == 3 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_tests_exist(row: list[str]) -> None:
    section, sentence, tests = row
    assert re.fullmatch(r"\d+(\.\d+)*", section)
    assert sentence.rstrip(")").endswith(".")
    names = re.findall(r"``(tests/\w+\.py)::(test_\w+)``", tests)
    assert names and len(names) == tests.count("::") == tests.count("| ")
    for path, name in names:
        assert name in names_in(path), f"{path} has no {name}"
