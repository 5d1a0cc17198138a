"""Does what a page of docs/ tells its reader to do, in a directory of its own.

Steps are, in the order of the page,

* a code block with a caption: a file, which gets this content.  "settings.py (excerpt)"
  changes it: a statement takes the place of the one that defines the same name, or else
  goes to the end;
* a block of the language ``console``: commands after "$ ", continued as in a shell, and
  what they print, "..." being anything, also in more lines.  Nothing there: they only
  have to succeed;
* "Stop ... with Ctrl-C";
* what a person does in a browser: a paragraph with :kbd: or an address of the reader's
  machine.  The test does it; none may be left out.

Other than for the reader, ports are free ones, the environment is the one that runs the
tests, and of what ``pip install`` should get it is checked that it is there.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from .servers import NO_CONTROL_SOCKET, ROOT, TIMEOUT, Server, wait_for

__all__ = ["Block", "Guide", "Paragraph", "read_page"]

_ENVIRONMENT = {"python3 -m venv venv", ". venv/bin/activate"}
_SERVERS = re.compile(
    r"(\w+=\S+ )*(celery |gunicorn |python manage.py runserver|python chat_server.py)"
)
#: Without what the tests' own site needs.
_SHELL = ["env", "-u", "DJANGO_SETTINGS_MODULE", "-u", "DATABASE_PATH", "sh", "-c"]
_STOP = re.compile(r"Stop \S+( \S+)? with Ctrl-C")
_HANDS = re.compile(r":kbd:|http://127\.0\.0\.1")
_EXCERPT = " (excerpt)"


@dataclass
class Paragraph:
    """Text between code blocks, in one line."""

    text: str

    @property
    def typed(self) -> list[str]:
        return re.findall(":kbd:`(.+?)`", self.text)

    @property
    def urls(self) -> list[str]:
        return re.findall(r"http://127\.0\.0\.1[\w:/-]*", self.text)


@dataclass
class Block:
    """A code block."""

    language: str
    caption: str
    text: str


def read_page(name: str) -> list[Block | Paragraph]:
    """Return the code blocks and paragraphs of a page, in order."""
    found: list[Block | Paragraph] = []
    lines = (ROOT / "docs" / name).read_text().splitlines()
    while lines:
        head = lines.pop(0)
        directive = re.match(r"\.\. (code-block|literalinclude):: (\S+)$", head)
        if directive is None:
            if head:
                while lines and lines[0]:
                    head += " " + lines.pop(0).strip()
                found.append(Paragraph(head))
            continue
        body: list[str] = []
        while lines and (not lines[0] or lines[0].startswith("    ")):
            body.append(lines.pop(0))
        text = textwrap.dedent("\n".join(body)).strip("\n") + "\n"
        options: dict[str, str] = {}
        while option := re.match(r":(\w+): (.*)\n+", text):
            options[option[1]] = option[2]
            text = text[option.end() :]
        language = directive[2]
        if directive[1] == "literalinclude":
            language = options["language"]
            text = (ROOT / "docs" / directive[2]).read_text()
        found.append(Block(language, options.get("caption", ""), text))
    return found


class Guide:
    """A page, and how far it has been followed."""

    def __init__(self, name: str, directory: Path, ports: Mapping[str, int]) -> None:
        self._steps = read_page(name)
        self._ports = ports
        self._servers: list[Server] = []
        self._command = ""
        self.directory = directory
        self._environ = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "",
            "PYTHONUNBUFFERED": "1",
            "GUNICORN_CMD_ARGS": " ".join([*NO_CONTROL_SOCKET, "--graceful-timeout=3"]),
        }

    def __enter__(self) -> Guide:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.process.terminate()
        for server in self._servers:
            server.stop()
            # For who looks at what went wrong.
            print(server.log)

    @property
    def port(self) -> int:
        """The port that is 8000 for the reader."""
        return self._ports["8000"]

    @property
    def server(self) -> Server:
        """The server that was started last."""
        return self._servers[-1]

    def follow_to(self, text: str) -> Paragraph:
        """Do all up to the paragraph that begins like this, and return that."""
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, Paragraph) and step.text.startswith(text):
                step.text = self._translate(step.text)
                return step
            self._do(step)
        raise AssertionError(f"the page doesn't say: {text}")

    def follow_to_end(self) -> None:
        while self._steps:
            self._do(self._steps.pop(0))

    def run(self, command: str) -> str:
        """Run a command of the shell; return what it prints."""
        result = subprocess.run(
            [*_SHELL, command],
            cwd=self.directory,
            env=os.environ | self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3 * TIMEOUT,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}"
        return result.stdout

    def start(self, command: str = "") -> None:
        """Start a server, by default the one before again."""
        self._command = command = command or self._command
        # Celery has none.
        port = self.port if "celery" not in command else 0
        for server in self._servers:
            assert server.port != port, f"{server.command} still runs"
        shell = [*_SHELL, f"exec env {command}"]
        self._servers.append(Server(shell, port, self.directory, **self._environ))

    def stop(self) -> None:
        """Press Ctrl-C."""
        for server in self._servers:
            server.process.send_signal(signal.SIGINT)
        while self._servers:
            self._servers.pop().process.wait(TIMEOUT)

    def _translate(self, text: str) -> str:
        for port, ours in self._ports.items():
            text = re.sub(rf"\b{port}\b", str(ours), text)
        return text

    def _do(self, step: Block | Paragraph) -> None:
        if isinstance(step, Paragraph):
            if _STOP.match(step.text):
                self.stop()
            else:
                assert not _HANDS.search(step.text), f"left out: {step.text}"
        elif step.language == "console":
            for command, output in _split_console(step.text):
                self._type(command, self._translate(output))
        else:
            assert step.caption, f"of which file is this?\n{step.text}"
            self._write(step)

    def _write(self, block: Block) -> None:
        path = self.directory / block.caption.removesuffix(_EXCERPT)
        text = self._translate(block.text)
        if block.caption.endswith(_EXCERPT):
            text = _change(path.read_text(), text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _type(self, command: str, output: str) -> None:
        if command in _ENVIRONMENT:
            return
        if command.startswith("pip install "):
            for requirement in shlex.split(command.removeprefix("pip install ")):
                _check_installed(requirement)
        elif command.startswith("cd "):
            self.directory /= command.removeprefix("cd ")
        elif command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self._environ[name] = value
        elif _SERVERS.match(command):
            if command == "python manage.py runserver":
                command += " 8000"
            self.start(self._translate(command))
            if output:
                wait_for(lambda: _matches(output, self.server.log), output)
            else:
                self.server.wait_until_listening()
        else:
            printed = self.run(command)
            assert not output or _matches(output, printed), f"{command}\n{printed}"


def _split_console(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command with its output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        while command.endswith("\\"):
            command = command[:-1] + lines.pop(0).strip()
        while lines and re.match(r">( |$)", lines[0]):
            command += "\n" + lines.pop(0)[2:]
        yield command, "\n".join(lines).strip()


def _matches(expected: str, output: str) -> bool:
    pattern = ""
    for line in expected.splitlines():
        if line == "...":
            pattern += r"(.*\n)*"
        else:
            pattern += re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
    return re.fullmatch(pattern, output.strip() + "\n") is not None


def _change(source: str, excerpt: str) -> str:
    """Return a module in which the statements of an excerpt replace their namesakes."""
    for statement in ast.parse(excerpt).body:
        lines = source.splitlines()
        places = {_find_name(old): _find_lines(old) for old in ast.parse(source).body}
        end = slice(len(lines), None)
        name = _find_name(statement)
        place = places.get(name, end) if name else end
        lines[place] = excerpt.splitlines()[_find_lines(statement)]
        source = "\n".join(lines) + "\n"
    return source


def _find_name(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0])
    return getattr(statement, "name", None)


def _find_lines(statement: ast.stmt) -> slice:
    decorators = getattr(statement, "decorator_list", [])
    start = min(node.lineno for node in [statement, *decorators])
    return slice(start - 1, statement.end_lineno)


def _check_installed(text: str) -> None:
    requirement = Requirement(text)
    distribution = metadata.distribution(requirement.name)
    provided = distribution.metadata.get_all("Provides-Extra") or []
    assert requirement.extras <= set(provided), text
    for line in distribution.requires or []:
        needed = Requirement(line)
        for extra in requirement.extras:
            if needed.marker and needed.marker.evaluate({"extra": extra}):
                metadata.distribution(needed.name)
