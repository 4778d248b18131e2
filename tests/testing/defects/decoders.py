"""Decoders with one defect each."""

import dataclasses
import io
import itertools
import threading
import time

import pytest
from PIL import Image

from frostline.features.images.decoders import DECODERS
from frostline.features.images.decoding import DecodeError
from frostline.testing import DecoderContract

NUMBERS = itertools.count()
PLAIN = dataclasses.replace(DECODERS["exact"], label=lambda: "libbroken 1")


def reading(read):
    return dataclasses.replace(PLAIN, read=read)


class Declared(DecoderContract):
    name = "broken"
    tolerance = 3
    fails = frozenset()

    @pytest.fixture(autouse=True)
    def _declared(self, declare):
        declare("frostline.decoders", broken=f"{__name__}:{type(self).__name__}.KIND")


class TestWithoutDefect(Declared):
    KIND = PLAIN
    tolerance = 0


class TestNoDecoder(Declared):
    KIND = "a decoder"
    fails = frozenset({"test_name_has_an_implementation"})


class TestLabelThatChanges(Declared):
    KIND = dataclasses.replace(PLAIN, label=lambda: f"libbroken {next(NUMBERS)}")
    fails = frozenset({"test_name_is_found_in_the_description_with_and_without_views"})


class TestDescriptionOfAnother(Declared):
    KIND = PLAIN
    fails = frozenset({"test_no_other_decoder_has_its_description"})

    @pytest.fixture(autouse=True)
    def _described(self, monkeypatch):
        monkeypatch.setattr("frostline.testing.decoder.describe_decoder", lambda _name, _views: "pillow")


class TestDarkPixels(Declared):
    KIND = reading(lambda data: PLAIN.read(data).point(lambda value: value * 9 // 10))
    fails = frozenset({"test_pixels_are_close_to_the_exact_ones"})


def flickering(data):
    more = next(NUMBERS) % 2
    return PLAIN.read(data).point(lambda value: min(255, value + more))


class TestFlicker(Declared):
    KIND = reading(flickering)
    fails = frozenset({"test_pixels_of_equal_bytes_are_equal"})


class OneAtATime:
    """A decoder that goes wrong where two threads use it at a time."""

    def __init__(self):
        self.lock = threading.Lock()

    def read(self, data):
        if not self.lock.acquire(blocking=False):
            return Image.new("RGB", (61, 47))
        try:
            time.sleep(0.01)
            return PLAIN.read(data)
        finally:
            self.lock.release()


class TestOneThread(Declared):
    KIND = reading(OneAtATime().read)
    fails = frozenset({"test_pixels_are_the_same_in_several_threads"})


def as_stored(data):
    PLAIN.read(data)  # for its errors
    return Image.open(io.BytesIO(data)).convert("RGB")


class TestPhotosAsStored(Declared):
    KIND = reading(as_stored)
    fails = frozenset({"test_photos_of_phones_are_upright"})


def red_alone(data):
    image = PLAIN.read(data)
    grey = Image.open(io.BytesIO(data)).mode == "L"
    return image.point([*range(256), *[0] * 512]) if grey else image


class TestGreyBecomesRed(Declared):
    KIND = reading(red_alone)
    fails = frozenset({"test_other_colours_become_rgb"})


def forgiving(data):
    try:
        return PLAIN.read(data)
    except DecodeError:
        return Image.new("RGB", (30, 30))


class TestBrokenImagesAreBlack(Declared):
    KIND = reading(forgiving)
    fails = frozenset({"test_broken_images_are_decode_errors_of_one_line"})
