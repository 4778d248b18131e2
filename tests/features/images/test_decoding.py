import dataclasses
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import timm
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL import features as pillow_features
from timm.data import create_transform, resolve_data_config

from frostline.features.errors import BackboneError, FeaturesError
from frostline.features.images import decoding
from frostline.features.images.decoders import DECODERS
from frostline.features.images.decoding import (
    EXTENSIONS,
    RESAMPLING,
    DecodeError,
    decode,
    transform_from_timm,
    transform_from_torchvision,
)
from frostline.features.images.views import random_box
from frostline.features.spec import Transform
from frostline.testing import encode, photo

PLAIN = Transform(
    resize=32,
    resize_mode="shortest",
    crop=(32, 32),
    interpolation="bilinear",
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
)
SIZES = [(500, 375), (375, 500), (224, 224), (225, 256), (32, 32), (31, 90), (300, 7), (1, 1)]


def pixels(data, transform=PLAIN):
    out = np.full((*transform.crop, 3), 77, np.uint8)
    decode(data, transform, out)
    return out


def reason_for_failing(data, out):
    try:
        decode(data, PLAIN, out)
    except DecodeError as error:
        return str(error)
    return None


def header(width, height):
    """A PNG that says how large it is, and holds no pixels."""
    data = encode(photo(8, 8), "PNG")
    chunk = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None], ids=["limit of Pillow", "without"])
def test_images_of_too_many_pixels_are_refused_before_they_are_read(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # which programs set to None
    said = reason_for_failing(header(20_000, 10_000), np.zeros((32, 32, 3), np.uint8))
    assert "more than 178956970" in said


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_views_are_resized_as_the_transform_says(interpolation):
    picture = photo(90, 70)
    transform = dataclasses.replace(PLAIN, interpolation=interpolation)
    views = np.zeros((5, 32, 32, 3), np.uint8)
    decoding.decode_views(encode(picture, "PNG"), transform, views, decoder=DECODERS["exact"], entropy=(7,))
    for number, view in enumerate(views[1:], 1):
        box = random_box(90, 70, np.random.default_rng((7, number)))
        expected = np.asarray(picture.resize((32, 32), RESAMPLING[interpolation], box))
        assert np.array_equal(view, expected) or np.array_equal(view, expected[:, ::-1])


def config(**changes):
    default = {
        "input_size": (3, 224, 224),
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "crop_pct": 0.875,
        "crop_mode": "center",
    }
    return default | changes


def timm_pixels(image, options):
    tensor = create_transform(**options, is_training=False, normalize=False)(image.convert("RGB"))
    return tensor.permute(1, 2, 0).numpy()


def as_is(image):
    """Transform that changes no pixel of an image of this size."""
    return Transform(
        resize=(image.height, image.width),
        resize_mode="squash",
        crop=(image.height, image.width),
        interpolation="bilinear",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )


class TestEqualsTimm:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize(
        "options",
        [
            config(),
            config(interpolation="bilinear", crop_pct=0.95),
            config(interpolation="lanczos", crop_pct=None),
            config(interpolation="nearest", crop_pct=1.0),
            config(input_size=(3, 160, 224), crop_pct=0.9),
            config(crop_mode="squash"),
            config(crop_mode="squash", crop_pct=1.0, input_size=(3, 96, 64)),
            config(crop_mode="border"),
            config(crop_mode="border", crop_pct=1.0, input_size=(3, 97, 160)),
        ],
        ids=str,
    )
    def test_bit_for_bit(self, size, options):
        if options["crop_mode"] == "border" and size == (300, 7):
            options = options | {
                "crop_pct": 0.5
            }  # keeps the short side above the half pixel that timm fails at
        data = encode(photo(*size), "JPEG", quality=90)
        expected = timm_pixels(Image.open(io.BytesIO(data)), options)
        np.testing.assert_array_equal(pixels(data, transform_from_timm(options)), expected)

    @settings(max_examples=60)
    @given(
        size=st.tuples(st.integers(20, 200), st.integers(20, 200)),
        crop=st.tuples(st.integers(16, 64), st.integers(16, 64)),
        crop_pct=st.floats(0.5, 1.0),
        crop_mode=st.sampled_from(["center", "squash", "border"]),
        interpolation=st.sampled_from(["bilinear", "bicubic", "nearest"]),
    )
    def test_bit_for_bit_for_any_sizes(self, size, crop, **options):
        options = config(input_size=(3, *crop), **options)
        image = photo(*size)
        np.testing.assert_array_equal(
            pixels(encode(image, "BMP"), transform_from_timm(options)), timm_pixels(image, options)
        )

    def test_every_pretrained_network_has_a_transform(self):
        for name in timm.list_pretrained():
            options = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
            transform = transform_from_timm(options)
            assert transform.crop == options["input_size"][1:]
            assert transform.mean == options["mean"]
            assert transform.std == options["std"]

    def test_rejects_unsupported_configuration(self):
        with pytest.raises(BackboneError, match=r"\(1, 28, 28\); expected 3 channels"):
            transform_from_timm(config(input_size=(1, 28, 28)))
        with pytest.raises(BackboneError, match=r"'zoom'.*center, border, squash"):
            transform_from_timm(config(crop_mode="zoom"))
        with pytest.raises(BackboneError, match=r"'random'.*bilinear"):
            transform_from_timm(config(interpolation="random"))


class TestEqualsTorchvision:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize(
        "weights",
        [
            "ResNet50_Weights.IMAGENET1K_V2",
            "EfficientNet_B3_Weights.IMAGENET1K_V1",
            "ViT_H_14_Weights.DEFAULT",
        ],
    )
    def test_bit_for_bit(self, size, weights):
        get_preset = torchvision.models.get_weight(weights).transforms
        data = encode(photo(*size), "JPEG", quality=90)
        exact = get_preset(mean=(0, 0, 0), std=(1, 1, 1))(Image.open(io.BytesIO(data)))
        expected = (exact * 255).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(pixels(data, transform_from_torchvision(get_preset())), expected)

    def test_takes_normalisation_and_sizes(self):
        transform = transform_from_torchvision(torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms())
        assert transform == Transform(
            232, "shortest", (224, 224), "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        )

    def test_rejects_presets_of_other_tasks(self):
        preset = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT.transforms()
        with pytest.raises(BackboneError, match="no resize_size, crop_size"):
            transform_from_torchvision(preset)


class TestModes:
    """What is not plain RGB becomes RGB as `Image.convert` makes it, except where that would lose the picture."""

    @pytest.mark.parametrize(
        ("mode", "kind"),
        [
            ("1", "PNG"),
            ("L", "PNG"),
            ("LA", "PNG"),
            ("P", "PNG"),
            ("RGBA", "PNG"),
            ("RGBA", "WEBP"),
            ("L", "JPEG"),
            ("CMYK", "JPEG"),
            ("CMYK", "TIFF"),
            ("YCbCr", "TIFF"),
            ("P", "GIF"),
            ("P", "BMP"),
            ("RGB", "PPM"),
            ("L", "PPM"),
            ("RGB", "AVIF"),
            ("RGB", "JPEG2000"),
        ],
    )
    def test_converted_as_pillow_does(self, mode, kind):
        if kind == "AVIF" and not pillow_features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        image = photo(40, 30).convert(mode)
        if mode in {"LA", "RGBA"}:
            image.putalpha(photo(40, 30, seed=1).convert("L"))
        # before 13, Pillow can't read the YCbCr that it writes uncompressed
        data = encode(image, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert expected.std() > 10
        np.testing.assert_array_equal(pixels(data, as_is(image)), expected)

    def test_ycck_jpeg(self):
        # Adobe's application segment with transform 2 is what makes four components YCCK
        data = encode(photo(40, 30).convert("CMYK"), "JPEG", quality=95)
        marker = data.index(b"Adobe")
        ycck = data[: marker + 11] + b"\x02" + data[marker + 12 :]
        expected = np.asarray(Image.open(io.BytesIO(ycck)).convert("RGB"))
        assert (expected != np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).any()
        np.testing.assert_array_equal(pixels(ycck, as_is(photo(40, 30))), expected)

    @pytest.mark.parametrize("transparency", [3, bytes(range(256))])
    def test_transparent_palette_is_flattened_without_a_warning(self, transparency):
        image = photo(40, 30).convert("P")
        data = encode(image, "PNG", transparency=transparency)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = pixels(data, as_is(image))
        np.testing.assert_array_equal(got, np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize(("kind", "order"), [("PNG", "<"), ("TIFF", "<"), ("TIFF", ">"), ("PPM", "<")])
    def test_sixteen_bit_grey_is_scaled_not_clipped(self, kind, order):
        ramp = np.linspace(0, 65535, 40 * 30).astype(f"{order}u2").reshape(30, 40)
        image = Image.fromarray(ramp)
        got = pixels(encode(image, kind), as_is(image))
        np.testing.assert_array_equal(got, np.repeat((ramp >> 8).astype(np.uint8)[..., None], 3, axis=2))

    @pytest.mark.parametrize("dtype", [np.int32, np.float32])
    def test_pixels_without_a_defined_white_are_an_error(self, dtype):
        data = encode(Image.fromarray(np.arange(12, dtype=dtype).reshape(3, 4)), "TIFF")
        with pytest.raises(DecodeError, match="no defined white"):
            pixels(data)

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_first_frame_of_several(self, kind):
        frames = [photo(40, 30, seed=seed) for seed in range(3)]
        data = encode(
            frames[0],
            kind,
            save_all=True,
            append_images=frames[1:],
            **({"lossless": True} if kind == "WEBP" else {}),
        )
        alone = encode(frames[0], kind, **({"lossless": True} if kind == "WEBP" else {}))
        np.testing.assert_array_equal(pixels(data, as_is(frames[0])), pixels(alone, as_is(frames[0])))


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_image_is_turned_upright_before_it_is_resized(self, orientation, kind):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(photo(90, 40), kind, exif=exif)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        assert upright.size == ((90, 40) if orientation < 5 else (40, 90))
        options = config(input_size=(3, 32, 24))
        np.testing.assert_array_equal(
            pixels(data, transform_from_timm(options)), timm_pixels(upright, options)
        )

    def test_from_xmp(self):
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
        data = encode(photo(90, 40), "JPEG", xmp=xmp)
        plain = Image.open(io.BytesIO(encode(photo(90, 40), "JPEG")))
        upright = plain.transpose(Image.Transpose.ROTATE_270)
        np.testing.assert_array_equal(pixels(data, as_is(upright)), np.asarray(upright))

    @pytest.mark.parametrize(
        "exif", [b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01"]
    )
    @pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {}), ("JPEG", {"dpi": (72, 72)})])
    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    @pytest.mark.filterwarnings("ignore:Possibly corrupt EXIF data")
    def test_damaged_metadata_leaves_a_sound_image(self, exif, kind, options):
        image = photo(40, 30)
        data = encode(image, kind, exif=exif, **options)
        expected = np.asarray(Image.open(io.BytesIO(encode(image, kind))))
        np.testing.assert_array_equal(pixels(data, as_is(image)), expected)

    def test_nonsense_orientation_is_ignored(self):
        exif = Image.Exif()
        exif[0x0112] = 99
        image = photo(40, 30)
        np.testing.assert_array_equal(pixels(encode(image, exif=exif), as_is(image)), np.asarray(image))


class TestDamaged:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF"])
    @pytest.mark.parametrize("fraction", [0.02, 0.5, 0.9])
    @pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")
    def test_cut_short(self, kind, fraction):
        if kind == "AVIF" and not pillow_features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        data = encode(photo(64, 48), kind)
        out = np.full((32, 32, 3), 77, np.uint8)
        with pytest.raises(DecodeError):
            decode(data[: int(len(data) * fraction)], PLAIN, out)
        assert (out == 77).all()

    def test_progressive_jpeg_cut_short(self):
        data = encode(photo(64, 48), "JPEG", progressive=True)
        with pytest.raises(DecodeError, match="truncated"):
            pixels(data[: int(len(data) * 0.8)])

    @pytest.mark.parametrize(
        "data", [b"\0" * 100, b"<html>404</html>", b"%PDF-1.4 ", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
    )
    def test_not_an_image(self, data):
        with pytest.raises(DecodeError, match=r"^not an image in a known format"):
            pixels(data)

    def test_empty(self):
        with pytest.raises(DecodeError, match=r"^empty file$"):
            pixels(b"")

    @pytest.mark.parametrize("size", [(60_000, 60_000), (14_000, 14_000)])
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_decompression_bomb(self, size):
        data = bytearray(encode(photo(8, 8)))
        data[16:24] = struct.pack(">II", *size)  # width and height in the PNG header
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
        with pytest.raises(DecodeError, match="more than 178956970"):
            pixels(bytes(data))

    def test_no_pixels(self):
        with pytest.raises(DecodeError, match="not an image"):
            pixels(b"P6\n0 8\n255\n")

    def test_too_elongated_to_resize(self):
        image = Image.new("RGB", (30_000, 1))
        with pytest.raises(
            DecodeError, match=r"30000 x 1 pixels would be resized to 7680000 x 256: too elongated"
        ):
            pixels(encode(image), transform_from_timm(config(input_size=(3, 224, 224))))

    def test_elongated_image_keeps_a_pixel_in_border_mode(self):
        got = pixels(
            encode(Image.new("RGB", (1000, 1), "red")), transform_from_timm(config(crop_mode="border"))
        )
        assert (got == (255, 0, 0)).all(axis=2).any()

    @settings(max_examples=150)
    @given(
        kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000"]),
        position=st.floats(0, 1, exclude_max=True),
        junk=st.binary(min_size=1, max_size=8),
    )
    def test_any_damage_is_a_decode_error_or_an_image(self, kind, position, junk):
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif} if kind in {"JPEG", "PNG", "WEBP", "TIFF"} else {}
        data = bytearray(encode(photo(24, 16), kind, **options))
        start = int(position * len(data))
        data[start : start + len(junk)] = junk
        out = np.full((32, 32, 3), 77, np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reason = reason_for_failing(bytes(data), out)
        assert reason is None or (len(reason.splitlines()) == 1 and (out == 77).all())

    def test_error_is_one_of_ours_and_a_value_error(self):
        assert issubclass(DecodeError, FeaturesError)
        assert issubclass(DecodeError, ValueError)


def test_extensions_are_those_of_the_formats_read():
    registered = Image.registered_extensions()
    assert all(registered[extension] in {*decoding.FORMATS, "MPO"} for extension in EXTENSIONS)


def test_out_may_be_a_slice_of_a_batch():
    batch = np.zeros((3, 32, 32, 3), np.uint8)
    data = encode(photo(40, 30))
    decode(data, PLAIN, batch[1])
    np.testing.assert_array_equal(batch[1], pixels(data))
    assert not batch[[0, 2]].any()


def noise(width, height):
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8))


def checkers(width, height):
    """Black and white beside each other: where a bicubic filter overshoots most."""
    board = np.indices((height, width)).sum(0) % 7 < 3
    return Image.fromarray(np.repeat((255 * board).astype(np.uint8)[:, :, None], 3, axis=2))


def by_both(image, transform):
    both = []
    for decoder in ("exact", "fast"):
        out = np.zeros((*transform.crop, 3), np.uint8)
        decode(encode(image), transform, out, decoder=decoder)
        both.append(out.astype(int))
    return both


@pytest.mark.parametrize("make", [photo, noise, checkers])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("mode", "resize"), [("shortest", 256), ("squash", (250, 240)), ("longest", (224, 224))]
)
@pytest.mark.parametrize("size", [*SIZES, (1100, 900), (900, 1700), (333, 517), (2000, 31), (300, 800)])
def test_the_fast_decoder_stays_within_its_bound(make, interpolation, mode, resize, size):
    transform = Transform(resize, mode, (224, 224), interpolation, (0.5,) * 3, (0.5,) * 3)
    exact, fast = by_both(make(*size), transform)
    difference = np.abs(exact - fast)
    assert difference.max() <= 3
    assert difference.mean() <= 0.3


@settings(max_examples=60)
@given(
    st.integers(20, 700), st.integers(20, 700), st.integers(24, 300), st.sampled_from(["shortest", "longest"])
)
def test_the_fast_decoder_stays_within_its_bound_at_any_size(width, height, resize, mode):
    transform = Transform(resize, mode, (24, 24), "bicubic", (0.5,) * 3, (0.5,) * 3)
    exact, fast = by_both(noise(width, height), transform)
    assert np.abs(exact - fast).max() <= 3


@pytest.mark.parametrize("interpolation", ["nearest", "lanczos", "box", "hamming"])
def test_the_fast_decoder_is_exact_where_torch_lacks_the_filter(interpolation):
    transform = Transform(64, "shortest", (48, 48), interpolation, (0.5,) * 3, (0.5,) * 3)
    exact, fast = by_both(photo(200, 170), transform)
    assert (exact == fast).all()
