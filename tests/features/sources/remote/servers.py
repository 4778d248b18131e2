"""Servers on this machine, which tests start: one of files by HTTP that can misbehave, and one that speaks the protocol of S3."""

import contextlib
import email.utils
import hashlib
import http.server
import threading
import time
import urllib.parse
from contextlib import contextmanager

KEY, SECRET = "test-key", "test-secret-that-nobody-may-see"


class WebFiles:
    """A web server of bytes by path.

    Attributes:
        files: Bytes by path without a leading slash.
        url: URL of the server, without a slash at its end.
        requests: Method and path with query of each request.
        faults: List of faults by path; each request takes the first one. A number is a status; "drop" closes the connection,
            "cut" sends half of the body, "more" sends bytes beyond it, "wait" answers late, and a URL redirects.
        most: Largest number of GET requests at once.
        open: Number of connections.
        tagged: Whether answers have an ETag.
        heads: Whether HEAD is answered.
    """

    def __init__(self, files):
        self.files, self.requests, self.faults = dict(files), [], {}
        self.tagged, self.heads, self.most, self.now, self.open = True, True, 0, 0, 0
        self.changed = dict.fromkeys(self.files, time.time() - 100)
        self._lock = threading.Lock()

    def write(self, path, data):
        self.files[path], self.changed[path] = data, time.time()

    @contextmanager
    def serving(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def fault(self, path):
        with self._lock:
            waiting = self.faults.get(path, [])
            return waiting.pop(0) if waiting else None

    def paths(self, method="GET"):
        return [path for each, path in self.requests if each == method]


def _handler(site):  # noqa: C901  # a class in a function
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def setup(self):
            super().setup()
            with site._lock:
                site.open += 1

        def finish(self):
            super().finish()
            with site._lock:
                site.open -= 1

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            with site._lock:
                site.now += 1
                site.most = max(site.most, site.now)
            try:
                self.answer(body=True)
            finally:
                with site._lock:
                    site.now -= 1

        def answer(self, *, body):
            site.requests.append((self.command, self.path))
            path = urllib.parse.unquote(self.path.partition("?")[0]).lstrip("/")
            fault = site.fault(path)
            if fault == "drop":
                self.close_connection = True
                self.connection.shutdown(2)
                return
            if isinstance(fault, str) and "://" in fault:
                self.plain(302, Location=fault)
                return
            if isinstance(fault, int) or (not body and not site.heads):
                self.plain(fault or 405)
                return
            if path not in site.files:
                self.plain(404)
                return
            if fault == "wait":
                time.sleep(1)
            data = site.files[path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Last-Modified", email.utils.formatdate(site.changed[path], usegmt=True))
            if site.tagged:
                self.send_header("ETag", f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"')
            if fault in ("cut", "more"):
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client that has left
                self.wfile.write((data[: len(data) // 2] if fault == "cut" else data) if body else b"")
                self.wfile.write(b"more than was said" * 1000 if body and fault == "more" else b"")

        def plain(self, status, **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


class Buckets:
    """A server of moto that speaks the protocol of S3."""

    def __init__(self, url):
        import boto3

        self.url = url
        self.client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def fill(self, bucket, files):
        self.client.create_bucket(Bucket=bucket)
        for key, data in files.items():
            self.write(bucket, key, data)

    def write(self, bucket, key, data):
        self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def remove(self, bucket, key):
        self.client.delete_object(Bucket=bucket, Key=key)

    @staticmethod
    def environment(url):
        """Variables by which Amazon's tools, and so s3fs, find the server."""
        return {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def buckets():
    """Start a server of moto."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield Buckets(f"http://{host}:{port}")
    finally:
        server.stop()
