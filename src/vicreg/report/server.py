"""A small server that shows a run's page while the run goes on. It only reads the run's folder."""

from __future__ import annotations

import http.server
import ipaddress
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vicreg._checks import check_integer, message
from vicreg.report.library import check_available
from vicreg.report.page import MOST_THUMBNAILS, page, waiting
from vicreg.report.reading import is_run, read_run

LOCAL = "127.0.0.1"
LAST_LOOK = 4.0
"""Seconds that the server stays for a browser that is looking, so that it sees the end."""
RECENT = 15.0
"""Seconds within which somebody who asked counts as looking."""


@contextmanager
def watched(folder: Path, port: int = 0, host: str = LOCAL, max_thumbnails: int = MOST_THUMBNAILS) -> Iterator[str]:
    """Serve a run's growing page, from a thread.

    Args:
        folder: The run's; it need not be there yet.
        port: 0 for any that is free.
        host: The address to listen on; by default none but this machine can reach it.
        max_thumbnails: Thumbnails and sounds at the most.

    Yields:
        The page's address.

    Raises:
        ImportError: plotly or jinja2 is not installed.
        OSError: The port is taken, or the address is not this machine's.
    """
    check_available()
    check_integer("--watch-port", port, 0, 65535)
    view = _View(folder, max_thumbnails, host)
    try:
        server = http.server.ThreadingHTTPServer((host, port), _handler(view))
    except OSError as failure:
        got = failure.strerror or str(failure)
        fix = "Name another by --watch-port, or 0 for any."
        raise OSError(message(f"port {port} of {host}", "be free to listen on", f"'{got}'", fix)) from failure
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}/"
        view.last_look()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class _View:
    """The page as it is now, made again only when a file has changed and somebody asks."""

    folder: Path
    max_thumbnails: int
    host: str
    asked: float = -RECENT
    shown: threading.Event = field(default_factory=threading.Event)
    ending: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: dict[bool, tuple[str, str]] = field(default_factory=dict)

    def page(self, library: bool) -> tuple[str, str]:
        """The page and its version."""
        self.asked = time.monotonic()
        with self._lock:
            version = self.version()
            if library not in self._made or self._made[library][0] != version:
                self._made = {library: (version, self._render(library))}
            return self._made[library]

    def _render(self, library: bool) -> str:
        if not self.folder.is_dir() or not is_run(self.folder):
            return waiting(self.folder.name)
        return page(read_run(self.folder), self.max_thumbnails, live=True, library=library)

    def version(self) -> str:
        """Changes whenever a file of the run does."""
        found = []
        for folder in (self.folder, self.folder / "portrait"):
            for path in sorted(folder.glob("*")) if folder.is_dir() else ():
                try:
                    status = path.stat()
                except OSError:  # it was replaced in this very moment
                    continue
                if path.is_file() and not path.name.startswith(".") and path.name != "report.html":
                    found.append((path.name, status.st_mtime_ns, status.st_size))
        return f'"{hash(tuple(found)) & 0xFFFFFFFFFFFF:x}"'

    def last_look(self) -> None:
        """Wait, but not for long, until a browser that is looking has seen the end."""
        self.ending = True
        if time.monotonic() - self.asked < RECENT:
            self.shown.wait(LAST_LOOK)


def _handler(view: _View) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers for the page and nothing else."""

        server_version, sys_version = "vicreg", ""
        timeout = 10

        def do_GET(self) -> None:
            if not _expected(self.headers.get("Host", ""), view.host):
                return self._answer(403, "Ask for this page by the address that vicreg said.", "text/plain")
            where = urlsplit(self.path).path
            if where not in ("/", "/news"):
                return self._answer(404, "There is nothing here.", "text/plain")
            ending = view.ending
            version, text = view.page(library=where == "/")
            if where == "/news" and self.headers.get("If-None-Match") == version:
                self._answer(304, "", "text/html", version)
            else:
                self._answer(200, text, "text/html", version)
            if ending:
                view.shown.set()
            return None

        def _answer(self, status: int, text: str, kind: str, version: str = "") -> None:
            content = text.encode("utf-8", "replace")
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("X-Frame-Options", "DENY")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            if version:
                self.send_header("ETag", version)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the run has the screen."""

    return Handler


def _expected(host: str, listening: str) -> bool:
    """Whether a request is for us: other names that lead here are some page's attempt to read this one."""
    name = (urlsplit(f"//{host}").hostname or "").lower()
    if name in ("localhost", listening.lower()):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or listening in ("0.0.0.0", "::")  # noqa: S104  # it is compared, not listened on
