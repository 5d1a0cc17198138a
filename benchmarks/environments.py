"""The servers that compare.py compares, and the environment that each one needs.

A peer is one entry of PEERS and, mostly, one file in peers/.  Each is set up as its
own documentation does for speed: uvloop for asyncio, native helpers where there are
some, logs and compression off.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS_DIRECTORY = HERE / "peers"
REPOSITORY = HERE.parent
SOURCES = (
    *("dwebsocket", "setup.py", "setup.cfg", "pyproject.toml"),
    *("MANIFEST.in", "README.rst", "LICENSE"),
)
OURS = "dwebsocket"  # this word among the requirements is the clone itself


class Missing(Exception):
    """What a peer needs is not on this machine."""


@dataclass(frozen=True)
class Peer:
    """One server: what to install, how to start it, where it echoes.

    `command` runs in peers/; it may name {bin}, the environment's programs, {port} and
    {example}.  `path` echoes; `get` is the path of a trivial view, None where there is
    none.  `shares` is the peer whose environment it runs in, if not its own.
    """

    name: str
    title: str
    command: str
    requires: tuple[str, ...] = ()
    installer: str = "pip"
    python: str = ""  # a version such as 3.8, "" the one that runs compare.py
    path: str = "/echo/"
    get: str | None = None
    max_size: int = 2**25  # of a message
    max_connections: int = 2**20
    pure: bool = False
    shares: str = ""

    @property
    def place(self) -> str:
        """The name of its environment's directory."""
        return self.shares or self.name


GUNICORN = "{bin}/python -m gunicorn --log-level critical -b 127.0.0.1:{port} "
GEVENT = GUNICORN + "-k gevent --worker-connections 20000 "
OURS_COMMAND = GUNICORN + (
    "-k dwebsocket.workers.WebSocketWorker --pythonpath {example} dwebsocket_site"
)
#: Not shown among the versions; gunicorn's gevent worker imports packaging.
HELPERS = ("packaging", "whitenoise", "Pygments")
OURS_REQUIRES = (OURS, "Django", "gevent", "gunicorn", "redis", "hiredis", *HELPERS)
VIEW = Peer(
    "dwebsocket",
    "**dwebsocket**",
    OURS_COMMAND,
    OURS_REQUIRES,
    get="/hello/",
    max_size=2**24,
)
PURE_VIEW = replace(
    VIEW, name="dwebsocket-pure", title="**dwebsocket**, not compiled", pure=True
)

PEERS = (
    Peer(
        "c",
        "C, epoll",
        "{bin}/wslimit {port}",
        installer="cc",
        max_size=2**20 - 64,
    ),
    VIEW,
    PURE_VIEW,
    replace(
        VIEW,
        name="dwebsocket-handler",
        title="**dwebsocket**, handler",
        path="/echo-handler/",
        shares=VIEW.name,
    ),
    replace(
        PURE_VIEW,
        name="dwebsocket-handler-pure",
        title="**dwebsocket**, handler, not compiled",
        path="/echo-handler/",
        shares=PURE_VIEW.name,
    ),
    Peer(
        "original",
        "dwebsocket 0.5",
        GEVENT + "original_site",
        ("dwebsocket==0.5.12", "Django==3.0.*", "gevent", "gunicorn", "packaging"),
        python="3.8",
        max_connections=1000,  # it calls select(), which knows file descriptors to 1023
        get="/hello/",
    ),
    Peer(
        "gevent-websocket",
        "gevent-websocket",
        "{bin}/python serve_gevent_websocket.py {port}",
        ("gevent-websocket", "gevent", "wsaccel"),
        get="/hello/",
    ),
    Peer(
        "flask-sock",
        "flask-sock",
        GEVENT + "flask_sock_app:app",
        ("flask-sock", "simple-websocket", "gevent", "gunicorn", "packaging"),
        get="/hello/",
    ),
    Peer(
        "channels-daphne",
        "Channels, Daphne",
        "{bin}/python -m daphne -v 0 -b 127.0.0.1 -p {port}"
        " --websocket-max-message-size 33554432 --websocket-max-frame-size 33554432"
        " channels_site:application",
        ("channels", "daphne", "Django"),
        get="/hello/",
    ),
    Peer(
        "channels-uvicorn",
        "Channels, uvicorn",
        "{bin}/python -m uvicorn --log-level critical --no-access-log --lifespan off"
        " --ws-per-message-deflate false --ws-max-size 33554432"
        " --port {port} channels_site:application",
        (
            *("channels", "channels_redis", "redis", "hiredis", "Django"),
            *("uvicorn[standard]", "websockets", "uvloop"),
        ),
        get="/hello/",
    ),
    Peer(
        "websockets",
        "websockets",
        "{bin}/python serve_websockets.py {port}",
        ("websockets", "uvloop"),
    ),
    Peer(
        "aiohttp",
        "aiohttp",
        "{bin}/python serve_aiohttp.py {port}",
        ("aiohttp", "uvloop"),
        get="/hello/",
    ),
    Peer(
        "picows",
        "picows",
        "{bin}/python serve_picows.py {port}",
        ("picows", "uvloop"),
    ),
    Peer(
        "ws",
        "ws (Node.js)",
        "node serve_ws.js {port}",
        ("ws", "bufferutil"),
        installer="npm",
    ),
)


def run(command: list[str | Path], environment: dict[str, str] | None = None) -> str:
    """Run a command that has to succeed, and return what it prints."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PEERS_DIRECTORY,  # the clone's own dwebsocket/ must not be found
        env=environment or clean_environment(),
    )
    if done.returncode:
        raise Missing(f"{command[0]} failed: {done.stdout.strip()[-500:]}")
    return str(done.stdout)


def clean_environment() -> dict[str, str]:
    """Return this process' environment without what would lead imports astray."""
    astray = ("PYTHON", "DWEBSOCKET_PURE")
    return {name: v for name, v in os.environ.items() if not name.startswith(astray)}


def find_program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Missing(f"there is no {name}")
    return path


def find_python(version: str, given: str | None) -> str:
    """Return a Python of this version: the one given, in PATH, or pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    names = [given] if given else [f"python{version}"]
    names += [str(path) for path in pyenv.glob(f"versions/{version}.*/bin/python")]
    for name in names:
        try:
            if version in run([name, "--version"]):
                return name
        except (OSError, Missing):
            continue  # pyenv's shims exist for versions that are switched off
    raise Missing(f"there is no python{version}")


def fingerprint(peer: Peer) -> str:
    """Return what changes when the environment has to be made anew."""
    digest = hashlib.sha256(repr((peer.requires, peer.python, peer.pure)).encode())
    files: list[Path] = []
    if OURS in peer.requires:
        files += sorted((REPOSITORY / "dwebsocket").rglob("*.p*"))
        files += [REPOSITORY / name for name in SOURCES]
    elif peer.installer == "cc":
        files += [HERE / "wslimit.c"]
    for path in files:
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def compile_c(name: str, directory: Path) -> None:
    flags: list[str | Path] = [
        "-std=gnu11",
        "-O2",
        "-o",
        directory / name,
        HERE / f"{name}.c",
    ]
    run([find_program("cc"), *flags])


def install(peer: Peer, directory: Path, python: str | None) -> None:
    if peer.installer == "cc":
        compile_c("wslimit", directory)
    elif peer.installer == "npm":
        find_program("node")
        run([find_program("npm"), "install", "--prefix", directory, *peer.requires])
    else:
        interpreter = (
            find_python(peer.python, python) if peer.python else sys.executable
        )
        run([interpreter, "-m", "venv", "--clear", directory])
        pip: list[str | Path] = [directory / "bin/python", "-m", "pip", "install", "-q"]
        environment = clean_environment()
        run([*pip, *(name for name in peer.requires if name != OURS)], environment)
        if OURS in peer.requires:
            if peer.pure:
                environment["DWEBSOCKET_PURE"] = "1"
            with tempfile.TemporaryDirectory() as temporary:
                source = copy_sources(Path(temporary))
                run([*pip, source], environment)


def copy_sources(target: Path) -> Path:
    """Copy the clone without anything that was built in it."""
    ignore = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=ignore)
        elif path.exists():
            shutil.copy(path, target / name)
    return target


def prepare(peer: Peer, root: Path, python: str | None) -> Path:
    """Return the directory of a peer's environment, made when it is not there.

    Raises Missing when something that can't be installed is not on this machine.
    """
    directory = root / peer.place
    mark, wanted = directory / "made-for", fingerprint(peer)
    if not (mark.exists() and mark.read_text() == wanted):
        print(f"Installing {peer.name} ...", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        install(peer, directory, python)
        mark.write_text(wanted)
    return directory


def versions(peer: Peer, directory: Path) -> str:
    """Return the versions of all that a peer is made of, as one line."""
    if peer.installer == "cc":
        return run([find_program("cc"), "--version"]).splitlines()[0]
    if peer.installer == "npm":
        found = [f"Node.js {run(['node', '--version']).strip().lstrip('v')}"]
        for name in peer.requires:
            text = (directory / "node_modules" / name / "package.json").read_text()
            found.append(f"{name} {json.loads(text)['version']}")
        return ", ".join(found)
    names = [re.split(r"[=\[]", x)[0] for x in peer.requires if x not in HELPERS]
    code = (
        "import importlib.metadata, platform, sys\n"
        "found = [f'{name} {importlib.metadata.version(name)}'"
        f" for name in {names!r}]\n"
        "print('Python ' + platform.python_version(), *found, sep=', ')"
    )
    program = directory / "bin/python"
    line = run([program, "-c", code]).strip()
    if OURS in peer.requires:
        code = "import dwebsocket; print(dwebsocket.is_compiled())"
        is_compiled = run([program, "-c", code]).strip() == "True"
        if is_compiled == peer.pure:
            raise Missing(f"it is {'' if is_compiled else 'not '}compiled")
        line += ", not compiled" if peer.pure else ", compiled"
    return line


def machine() -> str:
    """Return what this machine is, and today's date."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    models = [x.partition(": ")[2] for x in info if x.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return (
        f"{(models or ['?'])[0]}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{system}, {datetime.date.today()}"
    )
