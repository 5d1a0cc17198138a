"""Starts proxies, with the configurations that docs/nginx.rst recommends."""

from __future__ import annotations

import os
from pathlib import Path

from .servers import ROOT, find_program

__all__ = ["make_command"]

_IS_ROOT = os.getuid() == 0

_NGINX = """
daemon off;
worker_processes 1;
error_log stderr;
pid {directory}/nginx-{port}.pid;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{site}
}}
"""

_CADDY = """
{{
    admin off
    auto_https off
}}
{site}
"""

# The rest of the modules is in apache2-bin, but isn't needed.
_APACHE = """
ServerRoot {directory}
ServerName 127.0.0.1
PidFile {directory}/apache-{port}.pid
ErrorLog /dev/stderr
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule headers_module {modules}/mod_headers.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
{user}
{site}
"""


def make_command(
    kind: str, directory: Path, port: int, upstream: str, second: str | None = None
) -> list[str]:
    """Write the configuration, and return the command that serves it on a port.

    ``kind`` is one of PROXIES, ``upstream`` is ``127.0.0.1:<port>`` or the path of a
    Unix domain socket.  With a ``second`` one nginx spreads connections over both.
    """
    kind = kind.partition("-")[0]
    path = directory / f"{kind}-{port}.conf"
    if kind == "nginx":
        changes = {"listen 80": f"listen 127.0.0.1:{port}"}
        if second is None:
            server = f"unix:{upstream}" if upstream.startswith("/") else upstream
            site = _read("nginx.conf", changes | {"127.0.0.1:8000": server})
        else:
            changes |= {"10.0.0.1:8000": upstream, "10.0.0.2:8000": second}
            site = _read("nginx-machines.conf", changes)
        user = "user root;" if _IS_ROOT else ""
        text = _NGINX.format(directory=directory, port=port, site=site, user=user)
        command = [find_program("nginx", "nginx-light"), "-c", str(path)]
    elif kind == "caddy":
        site = _read(
            "Caddyfile",
            {
                "www.example.com": f"http://127.0.0.1:{port}",
                "127.0.0.1:8000": upstream,
            },
        )
        text = _CADDY.format(site=site)
        home = [f"XDG_{name}_HOME={directory}" for name in ("CONFIG", "DATA")]
        command = ["env", *home, find_program("caddy", "caddy"), "run"]
        command += ["--adapter", "caddyfile", "--config", str(path)]
    elif kind == "apache":
        site = _read("apache.conf", {"*:80": f"*:{port}", "127.0.0.1:8000": upstream})
        user = "User www-data\nGroup www-data" if _IS_ROOT else ""
        program = find_program("apache2", "apache2-bin")
        modules = "/usr/lib/apache2/modules"
        text = _APACHE.format(
            directory=directory, modules=modules, port=port, site=site, user=user
        )
        command = [program, "-D", "FOREGROUND", "-f", str(path)]
    else:
        text = _read(
            "haproxy.cfg", {"*:80": f"127.0.0.1:{port}", "127.0.0.1:8000": upstream}
        )
        command = [find_program("haproxy", "haproxy"), "-db", "-f", str(path)]
    path.write_text(text)
    return command


def _read(name: str, changes: dict[str, str]) -> str:
    """Return a configuration of docs/ with the addresses of the test."""
    text = (ROOT / "docs" / "proxies" / name).read_text()
    for documented, ours in changes.items():
        assert text.count(documented) == 1, (name, documented)
        text = text.replace(documented, ours)
    return text
