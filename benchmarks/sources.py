"""Compare the rate of an extraction from each kind of place that the same photos lie in.

python benchmarks/sources.py [--images 200] [--rounds 5] [--reading] [--delay 0]

The places are a folder, a tar, a zip and a Parquet file; a bucket, and a web server with a manifest. The servers are
processes on this machine. That of the bucket is a small one which answers ListObjectsV2 and GET out of its memory, because
moto's takes longer for an answer than an extraction for an image. --delay adds milliseconds to each of their answers, as a
network does. The rate is that of the forward stage, which reads, decodes and computes; with --reading it is that of reading
and decoding alone. The places take turns, each round in the other direction, and the rate of each round is divided by that
of the folder in the same round. The figures are medians. The servers share the cores of this machine with the extraction.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import numpy as np
from extract import write_images

from frostline.commands.interface.terminal import print_table
from frostline.features.backbones import load_backbone
from frostline.features.images.batches import load_batches
from frostline.features.sources import open_source
from frostline.pipeline import extract

BUCKET = "a-bucket"
WHEN = "Mon, 01 Jan 2024 00:00:00 GMT"


def serve(folder: Path, delay: float) -> None:
    """Serve the files of a folder as a bucket and as a web server, and print the port."""
    import asyncio

    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    tags = {name: f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"' for name, data in files.items()}

    def listing(query: dict[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", [""])[0]
        names = [name for name in sorted(files) if name.startswith(prefix) and name > after]
        rows = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(tags[name])}</ETag><Size>{len(files[name])}</Size></Contents>"
            for name in names[:1000]
        )
        more = len(names) > 1000
        token = f"<NextContinuationToken>{escape(names[999])}</NextContinuationToken>" if more else ""
        return (
            f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>{str(more).lower()}'
            f"</IsTruncated>{token}{rows}</ListBucketResult>"
        ).encode()

    def answer(method: str, target: str) -> bytes:
        parts = urlsplit(target)
        name = unquote(parts.path).lstrip("/").removeprefix(f"{BUCKET}/")
        query = parse_qs(parts.query)
        data = listing(query) if "list-type" in query else files.get(name)
        if data is None:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\nLast-Modified: {WHEN}\r\n"
        head += f"ETag: {tags[name]}\r\n\r\n" if name in tags else "\r\n"
        return head.encode() + (b"" if method == "HEAD" else data)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            while await reader.readline() not in {b"\r\n", b""}:
                pass
            method, target, _ = line.decode().split(" ", 2)
            if delay:
                await asyncio.sleep(delay)
            writer.write(answer(method, target))
            await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


def written(folder: Path, images: int, kind: str) -> dict[str, str]:
    """Write the photos in all forms; return the place of each."""
    photos = folder / "photos"
    write_images(photos, kind, images)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*") if path.is_file())
    with (
        tarfile.open(folder / "photos.tar", "w") as archive,
        zipfile.ZipFile(folder / "photos.zip", "w") as other,
    ):
        for name in names:
            archive.add(photos / name, name)
            other.write(photos / name, name)
    (folder / "m.csv").write_text("path\n" + "".join(f"photos/{name}\n" for name in names))
    places = {"folder": photos, "tar": folder / "photos.tar", "zip": folder / "photos.zip"}
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return {name: str(path) for name, path in places.items()}
    cells = [{"bytes": (photos / name).read_bytes(), "path": name} for name in names]
    parquet.write_table(pyarrow.table({"image": cells}), folder / "photos.parquet", row_group_size=64)
    return {name: str(path) for name, path in {**places, "Parquet": folder / "photos.parquet"}.items()}


def rate(place: str, options: argparse.Namespace, cache: Path) -> float:
    """Return the images per second."""
    if not options.reading:
        cache.unlink(missing_ok=True)
        done = extract(place, backbone=options.backbone, engine=options.engine, precision="fp32", cache=cache)
        return done.images_per_second
    source = open_source(place)
    transform = load_backbone(options.backbone).transform
    rows = np.arange(len(source.table))
    started = time.perf_counter()
    for _ in load_batches(source, rows, transform, batch_size=32, block_rows=256):
        pass
    seconds = time.perf_counter() - started
    source.close()
    return len(rows) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--engine", default="eager")
    parser.add_argument("--format", default="jpeg", dest="kind")
    parser.add_argument("--reading", action="store_true", help="measure reading and decoding alone")
    parser.add_argument(
        "--delay", type=float, default=0.0, help="of each answer of a server, in milliseconds"
    )
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.delay / 1000)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        places = written(folder, options.images, options.kind)
        command = [sys.executable, __file__, "--serve", str(folder), "--delay", str(options.delay)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None  # noqa: S101  # a pipe
                url = f"http://127.0.0.1:{int(server.stdout.readline())}"
                os.environ.update(
                    AWS_ENDPOINT_URL=url,
                    AWS_ACCESS_KEY_ID="benchmark",
                    AWS_SECRET_ACCESS_KEY="benchmark",  # noqa: S106  # of no account
                    AWS_DEFAULT_REGION="us-east-1",
                    NO_PROXY="127.0.0.1",
                )
                places |= {"S3": f"s3://{BUCKET}/photos/", "HTTP": f"{url}/m.csv"}
                show(places, options, folder / "c.h5")
            finally:
                server.kill()


def show(places: dict[str, str], options: argparse.Namespace, cache: Path) -> None:
    """Measure and print a table."""
    rates: dict[str, list[float]] = {name: [] for name in places}
    rate(places["folder"], options, cache)  # warm up
    for number in range(options.rounds):
        for name in list(places)[:: -1 if number % 2 else 1]:
            rates[name].append(rate(places[name], options, cache))
    rows = [
        [
            name,
            f"{statistics.median(found):.1f}",
            f"{statistics.median(a / b for a, b in zip(found, rates['folder'], strict=True)):.2f}",
        ]
        for name, found in rates.items()
    ]
    print_table(["place", "images/s", "of the folder"], rows)


if __name__ == "__main__":
    main()
