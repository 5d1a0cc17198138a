"""Which module may import which, and the form that all modules have."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dwebsocket

PACKAGE = Path(dwebsocket.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}
for _name in "groups", "tasks":
    MODULES[_name] = PACKAGE / _name / "__init__.py"

_CORE = {
    "exceptions",
    "uncompiled",
    "frames",
    "deflate",
    "encoder",
    "message",
    "protocol",
}
_HUB = {*_CORE, "backlog", "limits", "registry", "syscalls", "writer"}
_HUB |= {"inbox", "stream", "transport"}
_GEVENT = {*_HUB, "websocket", "gateway", "handshake", "peer"}
_DJANGO = {"conf", "context", "databases", "request", "signals"}
_GROUPS = {f"groups.{name}" for name in ("backends", "base", "envelope")}
_GROUPS |= {"groups.connections", "groups.identity", "groups.local"}

#: What each module may import of the package; others may import anything.
MAY_IMPORT = {
    "exceptions": set(),
    "uncompiled": set(),
    "frames": {"exceptions", "uncompiled"},
    "deflate": {"exceptions", "frames"},
    "handshake": {"exceptions", "deflate"},
    "encoder": {"frames", "deflate", "uncompiled"},
    "message": {"exceptions", "frames", "deflate", "uncompiled"},
    "protocol": {*_CORE},
    "backlog": {"encoder"},
    "limits": set(),
    "ratelimit": {"backlog", "encoder", "frames"},
    "registry": set(),
    "syscalls": {"uncompiled"},
    "writer": {*_CORE, "backlog", "limits", "registry", "syscalls"},
    "inbox": {*_CORE, "limits", "writer"},
    "stream": {*_CORE, "inbox", "limits", "syscalls"},
    "transport": {*_CORE, "backlog", "inbox", "registry", "stream", "syscalls"},
    "websocket": {*_CORE, "groups", "transport"},
    "gateway": {"exceptions", "frames"},
    "peer": {"exceptions", "frames", "message"},
    "server": {"frames", "gateway", "registry"},
    "workers": {"frames", "gateway", "registry", "server"},
    "conf": {"backlog", "deflate", "limits", "ratelimit"},
    "address": {"conf"},
    "context": set(),
    "databases": set(),
    "request": set(),
    "signals": set(),
    "logins": set(),
    "rechecks": {"databases", "logins"},
    "login_signals": {*_GROUPS, "logins", "rechecks", "signals"},
    "authentication": {"handshake", "login_signals", "registry"},
    "groups": {*_GROUPS, "backlog", "exceptions", "frames"},
    "failures": {"exceptions", "frames"},
    "conversation": {
        *(*_GEVENT, *_DJANGO, "address", "failures", "groups", "logins"),
        "ratelimit",
    },
    "switching": {"conversation", "gateway", "handshake"},
    "upgrade": {
        *(*_GEVENT, *_DJANGO, "address", "conversation", "logins", "ratelimit"),
        "switching",
    },
    "pool": {*_GEVENT, *_DJANGO, "conversation", "failures"},
    "handlers": {*_GEVENT, *_DJANGO, "conversation", "pool"},
    "decorators": {"conf", "upgrade"},
    "views": {
        *("conf", "decorators", "handlers", "pool", "protocol", "upgrade"),
        "websocket",
    },
    "messages": {*_GEVENT, "failures", "signals", "views"},
    "tasks": {"tasks.logs", "tasks.store", "tasks.task", "tasks.views"},
    "tasks.logs": set(),
    "tasks.store": {"conf", "groups"},
    "tasks.task": {"conf", "tasks.logs", "tasks.store"},
    "tasks.views": {"backlog", "conf", "messages", "tasks.store"},
    "tasks.celery": {"tasks.store", "tasks.task"},
    "middleware": {"conf", "upgrade", "exceptions"},
    "checks": {"conf", "upgrade"},
    "inprocess": {"conversation", "databases", "gateway", "registry"},
    "testing": {*_GEVENT, "inprocess", "switching"},
    "apps": {"authentication", "checks", "databases", "login_signals", "testing"},
    "management.commands.runserver": {"frames", "server"},
}
#: What of others: the standard library, and gevent, gunicorn and Django.
STANDARD_LIBRARY_ONLY = {*_CORE, "backlog", "handshake", "ratelimit"}
NO_DJANGO = {*STANDARD_LIBRARY_ONLY, *_GEVENT, "server", "workers"}


def walk_what_runs(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only a type checker sees."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield from walk_what_runs(other)
        else:
            yield from walk_what_runs(child)


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """Return the modules of the package and the packages of others."""
    ours: set[str] = set()
    others: set[str] = set()
    for node in walk_what_runs(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            package = path.parents[node.level - 1].relative_to(PACKAGE.parent)
            prefix = ".".join(package.parts)
            names = [f"{prefix}.{node.module or alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        else:
            continue
        for name in names:
            package, _, module = name.partition(".")
            if package == "dwebsocket":
                ours.add(module)
            else:
                others.add(package)
    return ours, others


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}

every_module = pytest.mark.parametrize("module", sorted(MODULES))


@every_module
def test_imports_of_the_package(module: str) -> None:
    ours = IMPORTS[module][0]
    assert ours <= MODULES.keys()
    assert ours <= MAY_IMPORT.get(module, MODULES.keys())


@every_module
def test_imports_of_other_packages(module: str) -> None:
    foreign = {name for name in IMPORTS[module][1] if name not in _STANDARD_LIBRARY}
    if module in STANDARD_LIBRARY_ONLY:
        assert not foreign
    elif module in NO_DJANGO:
        assert foreign <= {"gevent", "greenlet", "gunicorn"}
    else:
        allowed = {"django", "gevent", "greenlet", "redis"}
        if module == "tasks.celery":
            allowed.add("celery")
        assert foreign <= allowed
    assert "asyncio" not in IMPORTS[module][1]


# "cython" isn't needed to run.
_STANDARD_LIBRARY = {*sys.stdlib_module_names, "__future__", "cython"}


def test_the_package_itself_imports_nothing() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    assert names <= {
        *("__future__", "importlib", "importlib.machinery", "os", "sys", "typing")
    }


def test_there_are_no_cycles() -> None:
    left = {name: set(ours) for name, (ours, _) in IMPORTS.items()}
    while left:
        free = {name for name, ours in left.items() if not ours & left.keys()}
        assert free, f"a cycle among {sorted(left)}"
        left = {name: ours for name, ours in left.items() if name not in free}


@every_module
def test_form(module: str) -> None:
    source = MODULES[module].read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    assert "from __future__ import annotations\n" in source
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names
    assert not any(name.startswith("_") for name in names)


@every_module
def test_length(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) < 400
