"""As much of an S3 service as reading objects needs, which takes requests only from whom it knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def object_store(objects: Mapping[str, bytes], key_id: str) -> Iterator[str]:
    """Serve objects, named as "bucket/key", to requests signed by one key; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Be silent."""

        def _answer(self, with_body: bool) -> None:
            content = objects.get(self.path.lstrip("/"))
            if f"Credential={key_id}/" not in (self.headers.get("Authorization") or ""):
                self._send(403, b"", 0)
            elif content is None:
                self._send(404, b"", 0)
            elif wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or ""):
                part = content[int(wanted[1]) : int(wanted[2]) + 1]
                self._send(206, part if with_body else b"", len(part))
            else:
                self._send(200, content if with_body else b"", len(content))

        def _send(self, status: int, body: bytes, length: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
