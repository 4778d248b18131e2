"""What libraries print about damaged images: nothing on the terminal, and no message of others is lost."""

import ctypes
import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from frostline.features.images.decoding import DecodeError, upright_rgb
from frostline.testing.images import encode, photo

reaches_libtiff = pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(ctypes.CDLL(Image.core.__file__), "TIFFSetErrorHandler"),
    reason="libtiff is a part of Pillow",
)
COMPRESSIONS = ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"]


def damaged(compression):
    """A TIFF whose strip begins with bytes that no compression writes."""
    data = encode(photo(200, 150), "TIFF", compression=compression)
    with Image.open(io.BytesIO(data)) as image:
        start, size = image.tag_v2[273][0], image.tag_v2[279][0]
    return data[:start] + bytes(size // 2) + data[start + size // 2 :]


@reaches_libtiff
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_libtiff_prints_nothing_and_its_message_is_the_reason(compression, capfd):
    with pytest.raises(DecodeError) as refused:
        upright_rgb(damaged(compression))
    assert capfd.readouterr() == ("", "")
    reason = str(refused.value)
    assert reason.startswith("damaged image: ")
    assert "decoder error" not in reason
    assert len(reason.splitlines()) == 1


@reaches_libtiff
def test_what_others_decode_is_printed_as_before(capfd):
    with pytest.raises(DecodeError):
        upright_rgb(damaged("tiff_lzw"))
    with pytest.raises(OSError, match="decoder error"):
        Image.open(io.BytesIO(damaged("tiff_lzw"))).load()
    assert "not yet in table" in capfd.readouterr().err


@reaches_libtiff
def test_other_threads_are_heard_meanwhile(capfd):
    data, stop = damaged("tiff_lzw"), threading.Event()

    def decode():
        while not stop.is_set():
            with pytest.raises(DecodeError):
                upright_rgb(data)

    threads = [threading.Thread(target=decode) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(200):
        os.write(2, b"line %d\n" % number)
        with pytest.raises(OSError, match="decoder error"):
            Image.open(io.BytesIO(data)).load()
    stop.set()
    for thread in threads:
        thread.join()
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("line")] == [f"line {number}" for number in range(200)]
    assert sum("not yet in table" in line for line in lines) == 200


@reaches_libtiff
def test_a_process_that_has_decoded_ends_in_silence():
    program = (
        "import sys; from frostline.features.images.decoding import DecodeError, upright_rgb\n"
        "try: upright_rgb(sys.stdin.buffer.read())\n"
        "except DecodeError: pass\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], input=damaged("packbits"), capture_output=True, check=True
    )
    assert (ended.stdout, ended.stderr) == (b"", b"")


def test_a_sound_tiff_is_read_after_a_damaged_one():
    with pytest.raises(DecodeError):
        upright_rgb(damaged("tiff_lzw"))
    image = photo(200, 150)
    np.testing.assert_array_equal(
        np.asarray(upright_rgb(encode(image, "TIFF", compression="tiff_lzw"))), np.asarray(image)
    )
