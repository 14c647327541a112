"""A stand-in for a server of Weights & Biases: it keeps runs as the protocol sends them."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = {"id": "p", "name": "stylex", "entity": {"id": "e", "name": "me"}}


class Weights:
    """What a server holds.

    Attributes:
        runs: By identity: `history`, a row a line; `config`, `summary`, `files` as they were sent.
        url: Where it listens.
    """

    def __init__(self, port: int) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.url = f"http://127.0.0.1:{port}"

    def run(self, name: str) -> dict[str, Any]:
        """A run, made at its first mention."""
        return self.runs.setdefault(
            name, {"history": [], "config": {}, "summary": {}, "files": set()}
        )

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        """Takes lines of a run's files, each from an offset on."""
        run, files = self.run(name), sent.get("files") or {}
        if "wandb-history.jsonl" in files:
            part = files["wandb-history.jsonl"]
            run["history"][part["offset"] :] = [json.loads(line) for line in part["content"]]
        if "wandb-summary.json" in files:
            run["summary"] = json.loads(files["wandb-summary.json"]["content"][-1])

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """Answers one of the client's questions."""
        if "mutation UpsertBucket" in query:
            run, name = self.run(given["name"]), given["name"]
            run["config"] |= json.loads(given.get("config") or "{}")
            bucket = {"id": name, "name": name, "displayName": name, "project": PROJECT}
            return {"upsertBucket": {"bucket": bucket, "inserted": False}}
        if "RunResumeStatus" in query:
            return {"model": {**PROJECT, "bucket": self.status(given["name"])}}
        if "CreateRunFiles" in query:
            self.run(given["run"])["files"] |= set(given["files"])
            urls = [{"name": f, "uploadUrl": f"{self.url}/put"} for f in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": urls}}
        if "Viewer" in query:
            viewer = {"id": "v", "entity": "me", "username": "me", "flags": "{}"}
            return {"viewer": {**viewer, "teams": {"edges": []}}}
        return {}

    def status(self, name: str) -> dict[str, Any] | None:
        """Where a run is that goes on; none if it is unknown."""
        if name not in self.runs:
            return None
        run = self.runs[name]
        return {
            **{"id": name, "name": name, "displayName": name, "tags": [], "eventsTail": "[]"},
            **{"logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(run["history"])},
            "summaryMetrics": json.dumps(run["summary"]),
            "historyTail": json.dumps([json.dumps(row) for row in run["history"][-1:]]),
            "config": json.dumps(run["config"]),
            "wandbConfig": json.dumps({"t": {"1": 1}}),  # it has begun
        }


@contextmanager
def serving() -> Iterator[Weights]:
    """Listens on this computer inside the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            found: dict[str, Any] = {}
            if "file_stream" in self.path:
                weights.stream(self.path.split("/")[-2], json.loads(content))
            elif self.path.endswith("graphql"):
                asked = json.loads(content)
                found = {"data": weights.answer(asked["query"], asked.get("variables") or {})}
            answer = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PUT = do_GET = do_POST

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    weights = Weights(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield weights
    finally:
        server.shutdown()
        server.server_close()
