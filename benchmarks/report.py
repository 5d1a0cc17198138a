"""What compare.py has measured, as tables, as reStructuredText and as a drawing."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from environments import PEERS, Peer

ECHO = {"32 B, 100": (32, 100), "32 B, 1,000": (32, 1000), "16 KiB, 100": (16384, 100)}
LARGE = {"64 KiB": 2**16, "1 MiB": 2**20, "16 MiB": 2**24}
LARGE_CONNECTIONS = 4
Sample = dict[str, Any]


class Results:
    """The samples, by workload, case and peer."""

    def __init__(self, stored: Sample) -> None:
        self.stored = stored
        self._found: dict[tuple[str, str], dict[int, Sample]] = {}
        for sample in stored["samples"]:
            by_round = self._found.setdefault((sample["peer"], sample["case"]), {})
            by_round[sample["round"]] = sample

    def peers(self, workload: str) -> list[Peer]:
        names = {x["peer"] for x in self.stored["samples"] if x["workload"] == workload}
        return [peer for peer in PEERS if peer.name in names]

    def failed(self, peer: Peer, case: str) -> bool:
        samples = self._found.get((peer.name, case), {}).values()
        return any(sample["errors"] for sample in samples)

    def value(self, peer: Peer, case: str, key: str) -> float | None:
        samples = self._found.get((peer.name, case), {}).values()
        return median(x[key] for x in samples) if samples else None

    def ratio(self, peer: Peer, case: str, key: str) -> float | None:
        """Return the median of the rounds' ratios to C, or to the peer's own GETs."""
        own = self._found.get((peer.name, case), {})
        other = ("c", case) if key == "x C" else (peer.name, "get")
        yardstick = self._found.get(other, {})
        ratios = [own[r]["cpu"] / yardstick[r]["cpu"] for r in own if r in yardstick]
        return median(ratios) if ratios else None

    def steadiness(self, case: str) -> str:
        """Return how far the C server's own figures lie apart: the machine's noise."""
        found = [x["cpu"] for x in self._found.get(("c", case), {}).values()]
        if not found:
            return ""
        span = f"{min(found):.1f} to {max(found):.1f} us"
        return f"The machine's own noise: the C server took {span} ({case})."

    def find(self, peer: Peer, case: str, key: str) -> float | None:
        find = self.ratio if key.startswith("x ") else self.value
        return find(peer, case, key)

    def shown(self, peer: Peer, case: str, key: str, form: str) -> str:
        if self.failed(peer, case):
            return "fails"
        value = self.find(peer, case, key)
        if value == 0:
            return "none"  # not one message in the time
        return "" if value is None else form.format(value)

    def ordered(self, workload: str, case: str, key: str) -> list[Peer]:
        """Return the peers of a workload, the best first, failures last."""

        def rank(peer: Peer) -> tuple[bool, float]:
            value = self.find(peer, case, key) or 0.0
            return self.failed(peer, case), -value if workload == "large" else value

        names = {x["peer"] for x in self.stored["samples"] if x["workload"] == workload}
        return sorted((peer for peer in PEERS if peer.name in names), key=rank)


#: Title, head and rows.
Table = tuple[str, list[str], list[list[str]]]
#: Case, key and format of a column.
Column = tuple[str, str, str]


def tables(results: Results) -> dict[str, list[Table]]:
    """Return the tables of each workload that was run."""
    found: dict[str, list[Table]] = {}

    def add(workload: str, title: str, columns: dict[str, Column]) -> None:
        case, key, _ = next(iter(columns.values()))
        rows = [
            [peer.title, *(results.shown(peer, *column) for column in columns.values())]
            for peer in results.ordered(workload, case, key)
        ]
        if rows:
            found.setdefault(workload, []).append((title, ["Server", *columns], rows))

    for case in ECHO:
        columns = {
            "times C": (case, "x C", "{:.2f}"),
            "CPU per echo, us": (case, "cpu", "{:.1f}"),
            "echoes/s": (case, "rate", "{:,.0f}"),
            "median, ms": (case, "p50", "{:.1f}"),
            "99 %, ms": (case, "p99", "{:.1f}"),
        }
        add("echo", f"{case} connections", columns)
    rates = {f"{case}, MiB/s": (case, "rate", "{:,.0f}") for case in LARGE}
    add("large", f"Large messages, {LARGE_CONNECTIONS} connections", rates)
    columns = {
        "upgrade": ("upgrade", "cpu", "{:,.0f}"),
        "plain GET": ("get", "cpu", "{:,.0f}"),
        "upgrade / GET": ("upgrade", "x GET", "{:.2f}"),
        "whole life": ("life", "cpu", "{:,.0f}"),
        "life / GET": ("life", "x GET", "{:.2f}"),
    }
    add("handshake", "Opening a connection, CPU in us", columns)
    columns = {
        "KiB per connection": ("idle", "each", "{:.1f}"),
        "connections": ("idle", "open", "{:,.0f}"),
        "server at start, MiB": ("idle", "start", "{:.0f}"),
    }
    add("idle", "Memory of idle connections", columns)
    return found


def as_text(head: list[str], rows: list[list[str]], mark: str = "") -> str:
    """Lay a table out in columns, with lines of `mark` as reStructuredText wants."""
    if mark:  # an empty first cell would continue the row above; others may be empty
        rows = [[cell or "\\" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [[mark * width for width in widths]] if mark else []
    lines = [*rule, head, *rule, *rows, *rule]
    text = [
        " ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join(text)


def setup(results: Results) -> str:
    """Return the machine, the versions and what was left out, as reStructuredText."""
    stored = results.stored
    titles = {peer.name: peer.title for peer in PEERS}
    lines = [
        f"{stored['machine']}; medians of {stored['rounds']} rounds of "
        f"{stored['seconds']:g} seconds.",
        results.steadiness(next(iter(ECHO))),
        "",
    ]
    for kind, text in (("versions", ""), ("left_out", "left out: ")):
        lines += [f"* {titles[k]}: {text}{v}." for k, v in stored[kind].items()]
    return "\n".join(lines)


def write_rst(results: Results, path: Path) -> None:
    """Replace what is between the marks of each workload that was run."""
    parts = {"setup": setup(results)}
    for workload, found in tables(results).items():
        parts[workload] = "\n\n".join(
            f"**{title}**\n\n{as_text(head, rows, '=')}" for title, head, rows in found
        )
    replace_parts(path, parts, "compare.py")


def replace_parts(path: Path, parts: dict[str, str], program: str) -> None:
    """Replace what is between the marks of each part in a file."""
    text = path.read_text()
    for name, part in parts.items():
        before, begin, rest = text.partition(f".. {name}: by {program}\n")
        _, end, after = rest.partition(f".. end of {name}\n")
        if not (begin and end):
            raise SystemExit(f"{path} has no marks for {name}")
        text = f"{before}{begin}\n{part}\n\n{end}{after}"
    path.write_text(text)


def write_plot(results: Results, path: Path) -> None:
    """Draw the ratios to C of the small messages as an SVG."""
    case = next(iter(ECHO))
    found = [
        (peer, ratio)
        for peer in results.ordered("echo", case, "x C")
        if not results.failed(peer, case)
        and (ratio := results.ratio(peer, case, "x C")) is not None
    ]
    scale = 420 / max((ratio for _, ratio in found), default=1)
    height = 22 * len(found) + 46
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="700" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="700" height="{height}" fill="white"/>',
        f'<text x="10" y="22">CPU per echo, {case} connections, C server = 1'
        " (shorter is better)</text>",
    ]
    for index, (peer, ratio) in enumerate(found):
        y = 38 + 22 * index
        fill = "#0a7" if peer.name.startswith("dwebsocket") else "#9ab"
        title = peer.title.replace("*", "")
        lines += [
            f'<text x="200" y="{y + 13}" text-anchor="end">{title}</text>',
            f'<rect x="208" y="{y}" width="{ratio * scale:.1f}" height="16" '
            f'fill="{fill}"/>',
            f'<text x="{214 + ratio * scale:.1f}" y="{y + 13}">{ratio:.1f}</text>',
        ]
    path.write_text("\n".join([*lines, "</svg>", ""]))
