"""Decoding of image files to the exact uint8 pixels of a backbone's own transform.

The pixels are bit-identical to those of timm's and torchvision's evaluation transforms on a PIL image, with two
deliberate exceptions. The EXIF orientation is applied, so that phone photos are upright; the reference transforms
ignore it. 16-bit grey is scaled to 8 bits; the reference clips it to white. `Image.draft`, which decodes a JPEG
faster at a reduced size, is not used because it changes pixels. Files whose pixels are not whole, or whose values
have no certain brightness, are errors.

Other decoders than ``exact`` may read and resize differently; see `frostline.features.images.decoders`.
"""

import contextlib
import functools
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from frostline.errors import one_line
from frostline.features.errors import BackboneError, FeaturesError
from frostline.features.images.decoders import DECODERS, DecoderKind
from frostline.features.images.files.checks import damage
from frostline.features.images.files.damage import decoded
from frostline.features.images.files.depth import (
    colour_remark,
    is_deep,
    obstacle,
    to_8_bits,
    unreadable_tiff,
    with_scaled_palette,
)
from frostline.features.images.files.metadata import without_metadata
from frostline.features.images.files.silence import silence
from frostline.features.images.files.tiff_strips import left_out
from frostline.features.images.heif import HEIF_EXTENSIONS, HEIF_REMEDY, is_heif, reads_heif, register_heif
from frostline.features.images.views import random_box
from frostline.features.spec import Transform

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Supported formats, by Pillow's names. Others run programs (EPS), have no signature (TGA) or hold no photos."""

# fmt: off
EXTENSIONS: Final = frozenset({
    ".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on
"""File name extensions of `FORMATS`, in lower case."""


def extensions() -> frozenset[str]:
    """Return the extensions of the images that can be read here, in lower case."""
    return EXTENSIONS | HEIF_EXTENSIONS if reads_heif() else EXTENSIONS


MAX_PIXELS: Final = 178_956_970
"""Limit on the pixels of an image and its resized copy: Pillow's limit for decompression bombs, 0.7 GB in memory."""

MAX_FILE_BYTES: Final = 12 * MAX_PIXELS
"""Limit on the size of an image file, which is not read beyond it: 2.1 GB, the most pixels as three channels of 32 bits."""

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_KEYS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # keys that Pillow's getexif reads
_REMARK = "frostline: remark"
_SHORT_SIGNATURES = {"BMP", "PPM"}  # two letters, with which texts begin too
RESAMPLING = {name.lower(): member for name, member in Image.Resampling.__members__.items()}
"""Filters of Pillow by the name of an interpolation."""


class DecodeError(FeaturesError, ValueError):
    """Bytes that are not a complete, readable image. The message is one short line."""


def reason_of(error: OSError | DecodeError | MemoryError) -> str:
    """Return why an image can't be read, in one line."""
    if isinstance(error, MemoryError):
        return "the image doesn't fit into the free memory of this machine"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error)


def decode(data: bytes, transform: Transform, out: NDArray[np.uint8], *, decoder: str = "exact") -> None:
    """Decode an image to RGB, resize it and crop its centre.

    Alpha is dropped, as in `PIL.Image.Image.convert`. Only the first frame of an animation is decoded. The
    function is thread-safe, and Pillow releases the GIL while it decodes and resizes.

    Args:
        data: Bytes of the image file.
        transform: Resizing and cropping. Its normalisation is left to the engine.
        out: (H, W, 3) uint8 array, with (H, W) = ``transform.crop``, that receives the pixels. Unchanged on error.
        decoder: Name in `frostline.features.images.decoders.DECODERS`: ``exact``, ``fast`` for pixels within 3 of 255 of the
            exact ones, or a decoder of another package.

    Raises:
        DecoderError: The decoder is unknown.
        DecodeError: The image has an unknown format, is truncated or damaged, or is too large.
    """
    kind = DECODERS[decoder]
    _place(kind.read(data), transform, out, kind)


def _place(image: Image.Image, transform: Transform, out: NDArray[np.uint8], decoder: DecoderKind) -> None:
    """Resize and crop an image into `out`."""
    width, height = _resized_size(image.width, image.height, transform)
    if width * height > MAX_PIXELS:
        raise DecodeError(
            f"{image.width} x {image.height} pixels would be resized to {width} x {height}: too elongated"
        )
    resized = image if image.size == (width, height) else decoder.resize(image, (width, height), transform)
    _crop_or_pad(resized, transform, out)


def decode_views(
    data: bytes,
    transform: Transform,
    out: NDArray[np.uint8],
    *,
    decoder: DecoderKind,
    entropy: tuple[int, ...],
) -> str:
    """Decode an image into its plain view and random resized crops, half of them mirrored (Szegedy et al. 2015).

    Args:
        data: Bytes of the image file.
        transform: Resizing and cropping of the plain view. Random crops use its crop size and interpolation.
        out: (views, H, W, 3) uint8 array that receives the plain view, then the random crops. Unchanged on error.
        decoder: Decoder of the image. It also resizes the plain view; Pillow resizes the random crops.
        entropy: Seed of the random crops. Each crop also uses its own index.

    Returns:
        The remark on the image, see `remark_on`; empty for none.

    Raises:
        DecodeError: See `decode`.
    """
    image = decoder.read(data)
    _place(image, transform, out[0], decoder)
    rows, columns = transform.crop
    for view in range(1, len(out)):
        rng = np.random.default_rng((*entropy, view))
        box = random_box(image.width, image.height, rng)
        pixels = np.asarray(image.resize((columns, rows), RESAMPLING[transform.interpolation], box))
        out[view] = pixels[:, ::-1] if rng.random() < 0.5 else pixels
    return remark_on(image)


def upright_rgb(data: bytes) -> Image.Image:
    """Decode an image file's bytes to RGB and apply the EXIF orientation. Grey becomes three equal channels.

    Damage to texts, colour profiles and other metadata does not matter. Only the first picture of a file with several
    is decoded and checked.

    Returns:
        The image; `remark_on` tells whether its pixels may not mean what the file says.

    Raises:
        DecodeError: The image has an unknown format, is truncated or damaged, is too large, or has values without a
            certain brightness.
    """
    if not data:
        raise DecodeError("empty file")
    with silence() as said:
        try:
            return _open_rgb(data)
        except (DecodeError, MemoryError):
            raise
        except Exception as error:  # a damaged file can raise nearly anything from within Pillow's plugins
            bare = without_metadata(data)
            if bare != data:
                try:
                    return _open_rgb(bare)
                except MemoryError:
                    raise
                except Exception:  # noqa: BLE001, S110  # the first error tells more
                    pass
            raise _as_decode_error(error, data, said) from error


def _as_decode_error(error: Exception, data: bytes, said: Sequence[str]) -> DecodeError:
    """Return the error in words.

    Args:
        error: Error of Pillow.
        data: Bytes of the file.
        said: Messages of libtiff, for which Pillow has only a number.
    """
    if isinstance(error, UnidentifiedImageError):
        if is_heif(data) and not reads_heif():
            return DecodeError(f"a HEIF photo; to read it: {HEIF_REMEDY}")
        reason = unreadable_tiff(data) or _unopened(data)
        return DecodeError(reason or f"not an image in a known format ({', '.join(FORMATS)})")
    if isinstance(error, Image.DecompressionBombError):
        return DecodeError(f"more than {MAX_PIXELS} pixels")
    return DecodeError(f"damaged image: {said[0] if said else one_line(error)}")


def _unopened(data: bytes) -> str:
    """Return why a file that begins like one of a known format can't be opened; empty if it doesn't begin so."""
    for name in set(_formats()) - _SHORT_SIGNATURES:
        factory, accept = Image.OPEN[name]
        accepted = accept(data[:16]) if accept else False
        if isinstance(accepted, str):  # why this Pillow can't read the format
            return accepted
        if accepted:
            try:
                factory(io.BytesIO(data), "")
            except Exception as error:  # noqa: BLE001  # as in `upright_rgb`
                return f"damaged image: {name}: {one_line(error)}"
    return ""


def remark_on(image: Image.Image) -> str:
    """Return a sentence if the pixels of an image from `upright_rgb` may not mean what its file says; else empty."""
    return str(image.info.get(_REMARK, ""))


def _open_rgb(data: bytes) -> Image.Image:
    stream = io.BytesIO(data)
    image: Image.Image = Image.open(stream, formats=_formats())
    if image.format == "MPO":  # the first of its pictures is a JPEG
        image = JpegImageFile(stream := io.BytesIO(data))
    if image.width * image.height > MAX_PIXELS:
        raise DecodeError(f"{image.width} x {image.height} pixels: more than {MAX_PIXELS}")
    if reason := obstacle(image):
        raise DecodeError(reason)
    if image.format == "TIFF" and (reason := left_out(image)):
        raise DecodeError(f"damaged image: {reason}")
    scan = stream.tell()
    image.load()
    if reason := damage(image, data, scan, _pixels):
        raise DecodeError(f"damaged image: {reason}")
    orientation = _orientation(image)
    image, remark = _rgb(image, data)
    image = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    if remark:
        image.info[_REMARK] = remark
    return image


def _pixels(data: bytes) -> bytes | None:
    return decoded(data, _formats())


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()  # register every plugin now: threads would race to do so in Image.open
    register_heif()
    return tuple(name for name in (*FORMATS, "HEIF") if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    if not image.info.keys() & _EXIF_KEYS:
        return 1
    # damaged metadata can raise nearly anything in Pillow's parser, but the image itself is still valid
    with contextlib.suppress(Exception):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _rgb(image: Image.Image, data: bytes) -> tuple[Image.Image, str]:
    """Return the image as RGB, and a remark on its values or an empty string."""
    if is_deep(image):
        try:
            grey, remark = to_8_bits(image, data)
        except ValueError as error:
            raise DecodeError(str(error)) from error
        return grey.convert("RGB"), remark
    if image.mode in {"I", "F"}:
        raise DecodeError(
            f"pixels of mode {image.mode!r} have no defined white; save the image with 8 or 16 bits"
        )
    with_scaled_palette(image)
    remark = colour_remark(image, data)
    if image.mode != "RGB":
        # convert() drops it anyway, but first translates it or warns about it
        image.info.pop("transparency", None)
        image = image.convert("RGB")
    return image, remark


def _resized_size(width: int, height: int, transform: Transform) -> tuple[int, int]:
    """Return (width, height) before the crop, rounded as in the reference transforms."""
    size = transform.resize
    if isinstance(size, int) and transform.resize_mode == "shortest":  # torchvision.transforms.Resize
        short, long = size, int(size * max(width, height) / min(width, height))
        return (short, long) if width <= height else (long, short)
    rows, columns = size if isinstance(size, tuple) else (size, size)
    if transform.resize_mode == "squash":
        return columns, rows
    pick = max if transform.resize_mode == "longest" else min  # timm.data.ResizeKeepRatio
    ratio = pick(height / rows, width / columns)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _crop_or_pad(
    image: Image.Image | NDArray[np.uint8], transform: Transform, out: NDArray[np.uint8]
) -> None:
    rows, columns = transform.crop
    size = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
    left, width = _window(size[0], columns)
    top, height = _window(size[1], rows)
    right, bottom = left + width, top + height
    if isinstance(image, Image.Image):
        pixels = np.asarray(image.crop((left, top, right, bottom)))
    else:
        pixels = image[top:bottom, left:right]
    if (height, width) == (rows, columns):
        out[...] = pixels
        return
    y, x = (rows - height) // 2, (columns - width) // 2
    # timm's border mode pads with the mean colour, everything else with black
    out[...] = [round(255 * value) for value in transform.mean] if transform.resize_mode == "longest" else 0
    out[y : y + height, x : x + width] = pixels


def _window(length: int, crop: int) -> tuple[int, int]:
    """Return start and length of the centre crop along one side. Halves round to even, as in `center_crop`."""
    return (round((length - crop) / 2), crop) if length > crop else (0, length)


def transform_from_timm(config: Mapping[str, Any]) -> Transform:
    """Return the transform equal to `timm.data.create_transform(**config, is_training=False)`.

    Args:
        config: Result of `timm.data.resolve_model_data_config`.

    Raises:
        BackboneError: The network's input is not RGB, or its configuration has an unsupported value.
    """
    *channels, rows, columns = config["input_size"]
    if channels not in ([], [3]):
        raise BackboneError(f"the network's input_size is {config['input_size']}; expected 3 channels (RGB)")
    crop_pct = config.get("crop_pct") or 0.875
    scaled = math.floor(rows / crop_pct), math.floor(columns / crop_pct)
    modes = {"center": "shortest", "border": "longest", "squash": "squash"}
    mode = config.get("crop_mode") or "center"
    if mode not in modes:
        raise BackboneError(
            f"crop_mode {mode!r} in the network's configuration; expected one of {', '.join(modes)}"
        )
    return _transform(
        resize=scaled[0] if scaled[0] == scaled[1] and mode == "center" else scaled,
        resize_mode=modes[mode],
        crop=(rows, columns),
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )


def transform_from_torchvision(preset: Any) -> Transform:
    """Return the transform equal to a torchvision classification preset on a PIL image.

    Args:
        preset: Result of ``weights.transforms()``: an object with the attributes ``resize_size``, ``crop_size``,
            ``interpolation``, ``mean`` and ``std``.

    Raises:
        BackboneError: The preset belongs to another task.
    """
    missing = [
        name
        for name in ("resize_size", "crop_size", "interpolation", "mean", "std")
        if not hasattr(preset, name)
    ]
    if missing:
        raise BackboneError(
            f"the preset {preset!r} is not one for image classification: it has no {', '.join(missing)}"
        )
    resize, crop = list(preset.resize_size), list(preset.crop_size)
    return _transform(
        resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
        resize_mode="shortest" if len(resize) == 1 else "squash",
        crop=(crop[0], crop[-1]),
        interpolation=preset.interpolation.value.removesuffix("-exact"),  # on PIL images the two are the same
        mean=preset.mean,
        std=preset.std,
    )


def _transform(*, interpolation: str, mean: Any, std: Any, **sizes: Any) -> Transform:
    if interpolation not in RESAMPLING:
        raise BackboneError(f"interpolation {interpolation!r}; expected one of {', '.join(RESAMPLING)}")
    return Transform(
        interpolation=interpolation, mean=tuple(map(float, mean)), std=tuple(map(float, std)), **sizes
    )
