"""The stores of other file systems of fsspec, against small servers that answer as theirs do."""

import http.server
import json
import threading
import urllib.parse
from contextlib import contextmanager
from importlib.util import find_spec

import fsspec
import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source
from frostline.features.sources.remote.stores import other
from tests.helpers.needs import needs, needs_remote

pytestmark = needs_remote


@contextmanager
def answering(answer):
    """Serve what a function returns for (method, path, query): the body or None, and headers. Yields the URL and requests."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            size = int(self.headers.get("Content-Length") or 0)
            parts = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(parts.query + "&" + self.rfile.read(size).decode())
            path = urllib.parse.unquote(parts.path)
            requests.append((self.command, path))
            body, headers = answer(self.command, path, query)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body or b"")

        do_HEAD = do_POST = do_GET  # noqa: N815  # names of http.server

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()
    thread.join()


def as_json(value):
    return json.dumps(value).encode(), {"Content-Type": "application/json"}


def check(source, files):
    """Check the images of a source, a changed one, and a missing one."""
    assert [id_.decode() for id_ in source.table.ids] == sorted(files)
    assert source.table.classes == ("cat", "dog")
    for row, id_ in enumerate(source.table.ids):
        data, stamp = source.read(row)
        assert data == files[id_.decode()]
        assert stamp == source.table.stamps[row].tobytes()
    files["cat/0.png"] = b"changed"
    assert source.read(0)[0] == b"changed"
    assert source.read(0)[1] != source.table.stamps[0].tobytes()
    del files["cat/0.png"]
    with pytest.raises(FileNotFoundError):
        source.read(0)
    source.close()


def digest(data):
    return f"{hash(data) & (1 << 60) - 1:040x}"


@needs("datasets", here=find_spec("huggingface_hub"))
def test_the_hugging_face_hub(files, monkeypatch):
    def answer(_method, path, query):
        if path == "/api/datasets/me/set":
            return as_json({"id": "me/set", "sha": "c" * 40, "siblings": []})
        known = {f"photos/{name}": data for name, data in files.items()}
        if path.startswith("/api/datasets/me/set/paths-info/"):
            found = [name for name in query.get("paths", ()) if name in known]
            return as_json([item(name, known[name]) for name in found])
        if path.startswith("/api/datasets/me/set/tree/main"):
            below = path.removeprefix("/api/datasets/me/set/tree/main").strip("/")
            prefix = f"{below}/" if below else ""
            names = [name for name in known if name.startswith(prefix)]
            if query.get("recursive") == ["true"]:
                return as_json([item(name, known[name]) for name in names])
            folders = {
                prefix + name.removeprefix(prefix).split("/")[0]
                for name in names
                if "/" in name.removeprefix(prefix)
            }
            direct = [item(name, known[name]) for name in names if "/" not in name.removeprefix(prefix)]
            return as_json(
                direct + [{"type": "directory", "oid": "d" * 40, "size": 0, "path": each} for each in folders]
            )
        if "/resolve/" in path:
            data = known.get(path.partition("/resolve/")[2].partition("/")[2])
            return data, {"ETag": '"x"', "X-Repo-Commit": "c" * 40, "Content-Type": "image/png"}
        return None, {}

    def item(name, data):
        return {"type": "file", "oid": digest(data), "size": len(data), "path": name}

    with answering(answer) as (url, _):
        files_of_hub = fsspec.filesystem(
            "hf", endpoint=url, token=False, skip_instance_cache=True, use_listings_cache=False
        )
        monkeypatch.setattr(other, "_file_system", lambda _url: files_of_hub)
        check(open_source("hf://datasets/me/set/photos"), files)


@needs("gcsfs", here=find_spec("gcsfs"))
@pytest.mark.filterwarnings("ignore")
def test_google_cloud_storage(files, monkeypatch):
    def answer(_method, path, query):
        known = {f"photos/{name}": data for name, data in files.items()}
        name = path.partition("/o/")[2]
        if name:
            if name not in known:
                return None, {}
            return (known[name], {}) if query.get("alt") == ["media"] else as_json(item(name, known[name]))
        prefix = query.get("prefix", [""])[0]
        return as_json(
            {"items": [item(each, data) for each, data in known.items() if each.startswith(prefix)]}
        )

    def item(name, data):
        times = {"updated": "2024-01-01T00:00:00Z", "timeCreated": "2024-01-01T00:00:00Z"}
        return {
            "name": name,
            "bucket": "b",
            "size": str(len(data)),
            "generation": digest(data),
            "etag": "x",
            **times,
        }

    with answering(answer) as (url, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        check(open_source("gs://b/photos/"), files)


@pytest.mark.parametrize(("kind", "package"), [("gs", "gcsfs"), ("hf", "huggingface_hub")])
def test_a_missing_package_is_named(monkeypatch, kind, package):
    def missing(*_args, **_options):
        raise ImportError(package)

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(
        SourceError, match=rf"reading {kind}:// needs {package}; install it with: pip install {package}"
    ):
        open_source(f"{kind}://b/photos/")


def test_urls_go_to_the_file_system_of_their_scheme(files, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    asked = []
    for name, data in files.items():
        memory.pipe_file(f"/set/{name}", data)

    def opened(kind, **_options):
        asked.append(kind)
        return memory

    monkeypatch.setattr(fsspec, "filesystem", opened)
    source = open_source("memory://set/")
    assert source.read(0)[0] == files["cat/0.png"]
    assert asked == ["memory"]
    memory.store.clear()
