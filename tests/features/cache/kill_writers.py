"""Kill 20 writers of one cache with SIGKILL at random moments, then finish it; run by test_kill.

Forks from here and not from the tests, whose process has threads. Prints one JSON document.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from frostline.features.cache import open_writer
from tests.features.cache.synthetic import fill, images, labelled, spec

ROWS, KILLS = 3000, 20
SPEC = spec(dtype="float16")


def run(path, source, progress):
    """A writer that tells of its start and of each batch, and takes a moment for it, as a real one would."""
    writer = open_writer(path, SPEC, source)
    os.write(progress, (writer.resumed + writer.copied).to_bytes(4, "little"))
    put = writer.put

    def slow_put(*arguments, **options):
        put(*arguments, **options)
        os.write(progress, b".")
        time.sleep(0.002)

    writer.put = slow_put
    with writer:
        fill(writer, SPEC, source)
        writer.finish()


def kill_one(path, source, batches, seconds):
    """Kill a writer some time after some batches; gives what it found done, if it was killed at work."""
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        run(path, source, sending)
        os._exit(0)
    os.close(sending)
    with open(receiving, "rb") as progress:  # noqa: PTH123  # a descriptor
        found = progress.read(4 + batches)[:4] if batches else b""
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return int.from_bytes(found, "little") if os.WIFSIGNALED(status) else None


def main():
    path = Path(sys.argv[1])
    draw = random.Random(7)  # noqa: S311  # moments, not secrets
    files = images(ROWS)
    found = []
    while len(found) < KILLS:
        if len(found) == KILLS // 2:  # the images change: what is there is set aside, and copied from there
            files |= images(200, start=ROWS)
        source = labelled(files)
        done = kill_one(path, source, batches=draw.randint(0, 16), seconds=draw.uniform(0, 0.02))
        if done is None:  # it was too quick
            path.unlink()
        else:
            found.append(done)
    with open_writer(path, SPEC, source) as writer:
        fill(writer, SPEC, source)
        writer.finish()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
