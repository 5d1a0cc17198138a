"""The documentation: it builds without a warning, and tells of all that there is."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.management import find_commands

import dwebsocket
from dwebsocket import conf, exceptions, testing
from dwebsocket.registry import registry
from dwebsocket.templatetags.dwebsocket import register

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = Path(dwebsocket.__file__).parent
PAGES = {path.stem: path.read_text() for path in sorted(DOCS.glob("*.rst"))}
TREES = {
    path: ast.parse(path.read_text())
    for path in PACKAGE.rglob("*.py")
    if path.name != "uncompiled.py"
}

#: Where the public names are.
MODULES = [
    "dwebsocket",
    "dwebsocket.address",
    "dwebsocket.authentication",
    "dwebsocket.groups",
    "dwebsocket.messages",
    "dwebsocket.middleware",
    "dwebsocket.server",
    "dwebsocket.signals",
    "dwebsocket.tasks",
    "dwebsocket.tasks.celery",
    "dwebsocket.testing",
    "dwebsocket.views",
    "dwebsocket.workers",
]
#: Public for other modules of the package only.
INTERNAL = {
    "dwebsocket.WebSocket.memberships",
    "dwebsocket.WebSocket.transport",
    "dwebsocket.authentication.hide_token",
    "dwebsocket.server.TLSLimit",
    "dwebsocket.views.WebSocketView.as_view",
    "dwebsocket.views.WebSocketView.dispatch",
    "dwebsocket.views.WebSocketView.forget_request",
    "dwebsocket.views.WebSocketView.head",
}


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What the built documentation describes: names by kind."""
    output = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    command += ["-t", "offline", "-b", "html", str(DOCS), str(output)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    # Four lines say what it is.
    data = (output / "objects.inv").read_bytes().split(b"\n", 4)[4]
    names: dict[str, set[str]] = {}
    for line in zlib.decompress(data).decode().splitlines():
        match = re.match(r"(.+?) (\w+:\w+) ", line)
        assert match
        names.setdefault(match[2], set()).add(match[1])
    return names


def described(inventory: dict[str, set[str]], domain: str) -> set[str]:
    """Return all names of a domain."""
    kinds = [kind for kind in inventory if kind.startswith(domain)]
    return {name for kind in kinds for name in inventory[kind]}


def find_settings() -> dict[str, dict[str, str]]:
    """Return, by name, the fields of each setting: Default and Option."""
    settings = re.findall(
        r"\.\. setting:: (\S+)\n\n(    .+)\n", PAGES["reference-settings"]
    )
    return {
        name: dict(re.findall(r"(\w+): ``(.+?)``", fields)) for name, fields in settings
    }


# Form


def test_the_toctree_has_all_pages() -> None:
    toctrees = re.findall(r"\.\. toctree::\n((?:   .*\n|\n)+)", PAGES["index"])
    listed = re.findall(r"^   ([\w.-]+)$", "".join(toctrees), re.MULTILINE)
    assert sorted([*listed, "index"]) == sorted(PAGES)


PYTHON = re.compile(
    r"^( *)\.\. code-block:: python\n(?:\1 +:.*\n)*\n((?:\1 {3,}.*\n|\n)+)",
    re.MULTILINE,
)


def python_blocks() -> Iterator[Any]:
    for name, text in PAGES.items():
        for number, match in enumerate(PYTHON.finditer(text)):
            yield pytest.param(textwrap.dedent(match[2]), id=f"{name}-{number}")


@pytest.mark.parametrize("block", list(python_blocks()))
def test_python_parses(block: str) -> None:
    ast.parse(block)


@pytest.mark.parametrize("page", list(PAGES))
def test_pages_are_links(page: str) -> None:
    assert not re.search(r"``docs/[\w-]+\.rst``|<[\w-]+\.rst>`_", PAGES[page])


# The Python interface


def public_names() -> Iterator[str]:
    for module_name in MODULES:
        module = import_module(module_name)
        for name in module.__all__:
            yield f"{module_name}.{name}"
    for owner, cls in (
        ("dwebsocket", dwebsocket.WebSocket),
        ("dwebsocket.testing", testing.ClientWebSocket),
        ("dwebsocket.views", import_module("dwebsocket.views").WebSocketView),
    ):
        for name in vars(cls):
            if not name.startswith("_"):
                yield f"{owner}.{cls.__name__}.{name}"


def test_all_public_names_are_described(inventory: dict[str, set[str]]) -> None:
    names = set(public_names())
    assert names >= INTERNAL
    assert names - described(inventory, "py:") == INTERNAL


def test_the_tree_of_exceptions_is_drawn() -> None:
    drawn = re.findall(r"^    ([ |+-]*)(\w+)$", PAGES["reference-codes"], re.MULTILINE)
    path: list[str] = []
    for indent, name in drawn:
        path[len(indent) // 5 :] = [name]
        cls = getattr(exceptions, name)
        parent = path[-2] if len(path) > 1 else "Exception"
        assert cls.__base__.__name__ == parent
    assert {name for _, name in drawn} == set(exceptions.__all__)


def test_counters() -> None:
    listed = re.findall(r"``(\w+)``", inspect.getdoc(dwebsocket.stats) or "")
    assert sorted(listed) == sorted(registry.stats())


def test_management_commands() -> None:
    listed = re.findall(r"describe:: manage.py (\w+)", PAGES["reference-servers"])
    assert sorted(listed) == sorted(find_commands(str(PACKAGE / "management")))


def test_template_tags() -> None:
    listed = re.findall(r"describe:: {% (\w+) ", PAGES["reference-views"])
    assert set(listed) == register.tags.keys()


# Settings


class Defaults(conf.Settings):
    """Notes the default of each setting that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Any] = {}

    def _get(self, name: str, default: Any) -> Any:
        self.found[name] = default
        return super()._get(name, default)


def test_settings(inventory: dict[str, set[str]]) -> None:
    defaults = Defaults()
    for name, value in vars(conf.Settings).items():
        if isinstance(value, property):
            getattr(defaults, name)
    values = find_settings()
    assert values.keys() == inventory["std:setting"] == defaults.found.keys()
    for name, default in defaults.found.items():
        expected = list(default) if isinstance(default, tuple) else default
        assert ast.literal_eval(values[name]["Default"]) == expected, name


def test_options() -> None:
    options = {
        name: fields["Option"]
        for name, fields in find_settings().items()
        if "Option" in fields
    }
    assert options == {f"WEBSOCKET_{name.upper()}": name for name in conf.VIEW_OPTIONS}
    listed = re.findall(r"``([a-z_]+)``", dwebsocket.accept_websocket.__doc__ or "")
    assert set(listed) == conf.VIEW_OPTIONS


# What the code can answer


def test_checks(inventory: dict[str, set[str]]) -> None:
    source = (PACKAGE / "checks.py").read_text()
    assert inventory["std:check"] == set(re.findall(r'id="(.+)"', source))


def constants(node: ast.AST) -> set[int]:
    """Return the numbers in an expression."""
    return {
        child.value
        for child in ast.walk(node)
        if isinstance(child, ast.Constant) and type(child.value) is int
    }


def test_close_codes(inventory: dict[str, set[str]]) -> None:
    names = dwebsocket.frames.CloseCode  # type: ignore[attr-defined]
    found = set()
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            match node:
                # All uses of the enumeration, but its definition and what is invalid.
                case ast.Attribute(value=ast.Name(id="CloseCode"), attr=name):
                    if path.name != "frames.py":
                        found.add(names[name])
                # Those of errors, and of applications' range.
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    numbers = constants(value)
                    if name == "close_code":
                        found |= numbers
                    elif name.isupper() and isinstance(value, ast.Constant):
                        if name[0] != "_":
                            found |= {n for n in numbers if 3000 <= n < 5000}
                # Of close() and the like.
                case ast.arguments() if any(a.arg == "code" for a in node.args):
                    found |= {n for d in node.defaults for n in constants(d) if n}
    assert inventory["std:closecode"] == {str(int(code)) for code in found}


def test_statuses(inventory: dict[str, set[str]]) -> None:
    found = set()
    for path, tree in TREES.items():
        source = path.read_text()
        found |= {int(status) for status in re.findall(r"HTTP/1\.1 (\d+) ", source)}
        for node in ast.walk(tree):
            match node:
                case ast.keyword(arg="status" | "status_code", value=value):
                    found |= constants(value)
                case ast.AnnAssign(target=ast.Name(id="status_code"), value=value) | (
                    ast.Assign(targets=[ast.Name(id="status_code")], value=value)
                ):
                    found |= constants(value) if value else set()
                case ast.Call(func=ast.Name(id="_plain_text"), args=[_, value, *_]):
                    found |= constants(value)
                case ast.arguments():
                    for arg, default in zip(
                        node.kwonlyargs, node.kw_defaults, strict=True
                    ):
                        if arg.arg == "status_code" and default:
                            found |= constants(default)
    assert inventory["std:status"] == {str(status) for status in found}


def test_codes_of_typed_messages() -> None:
    source = (PACKAGE / "messages.py").read_text()
    found = set(re.findall(r'(?:MessageError\(|error = )"(\w+)"', source))
    source = (PACKAGE / "ratelimit.py").read_text()
    found |= set(re.findall(r'"code": "(\w+)"', source))
    table = re.search(r"\n=+ =+\n(.*?)\n=+ =+\n", PAGES["messages"], re.DOTALL)
    assert table
    assert set(re.findall(r"^``(\w+)``", table[1], re.MULTILINE)) == found


def literals(node: ast.AST) -> list[str]:
    """Return the texts in an expression, of f-strings what is between the values."""
    return [
        child.value
        for child in ast.walk(node)
        if isinstance(child, ast.Constant) and isinstance(child.value, str)
    ]


def test_messages_to_look_up_are_those_of_the_code() -> None:
    known = [text for tree in TREES.values() for text in literals(tree)]
    terms = re.findall(r"^(\S.*)\n    \S", PAGES["troubleshooting"], re.MULTILINE)
    messages = [m for term in terms for m in re.findall(r"``([^`]* [^`]*)``", term)]
    assert len(messages) > 20
    for message in messages:
        for part in message.split("..."):
            assert any(part.strip() in text for text in known), message


def test_refusals_can_be_looked_up() -> None:
    raisers = ("HandshakeError", "UnsupportedServer", "HttpResponse", "_plain_text")
    found = [
        text.split(":")[0].strip()
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in raisers
        and node.args
        for text in literals(node.args[0])[:1]
    ]
    assert len(found) > 10
    for text in found:
        assert text in PAGES["troubleshooting"]
