"""A model hub on loopback, with the addresses and headers that the hub's client relies on."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves directories as repositories, at `/{repository}/resolve/{revision}/{file}`. A context manager.

    Args:
        repositories: directories by `owner/name`.
        broken: answer everything with status 500.
        cut_off: how many downloads of weights end in the middle.
    """

    def __init__(self, repositories: Mapping[str, Path], *, broken: bool = False, cut_off: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str]] = []
        self.repositories = repositories
        self.broken = broken
        self.cut_off = cut_off
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def downloads(self) -> list[str]:
        """The files that were fetched, in order."""
        return [path.rpartition("/")[2] for command, path in self.requests if command == "GET"]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        content = self._answer()
        if self.path.endswith(".safetensors") and self.server.cut_off:
            self.server.cut_off -= 1
            content = content[: len(content) // 2]
            self.close_connection = True
        self.wfile.write(content)

    def _answer(self) -> bytes:
        self.server.requests.append((self.command, self.path))
        owner, name, _, revision, file = self.path.lstrip("/").split("/", 4)
        directory = self.server.repositories.get(f"{owner}/{name}")
        if self.server.broken:
            return self._send(500)
        if directory is None:
            return self._send(404, ("X-Error-Code", "RepoNotFound"))
        if revision not in {"main", COMMIT}:
            return self._send(404, ("X-Error-Code", "RevisionNotFound"))
        commit = ("X-Repo-Commit", COMMIT)
        if not (directory / file).is_file():
            return self._send(404, ("X-Error-Code", "EntryNotFound"), commit)
        content = (directory / file).read_bytes()
        return self._send(200, ("ETag", f'"{hashlib.sha256(content).hexdigest()}"'), commit, content=content)

    def _send(self, status: int, *headers: tuple[str, str], content: bytes = b"") -> bytes:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, *_arguments: object) -> None:
        """The requests are kept."""
