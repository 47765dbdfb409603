import numpy as np
import pytest
from PIL import Image

from torchnle.images import open_image

RED = (200, 10, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_rotation_is_undone(tmp_path, orientation):
    upright = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    opened = open_image(tmp_path / "photo.png")
    assert opened.size == (3, 2)
    assert np.array_equal(np.asarray(opened), np.asarray(upright))


@pytest.mark.parametrize(
    ("mode", "suffix", "tolerance"),
    [
        ("RGB", "png", 0),
        ("RGBA", "png", 0),
        ("P", "png", 0),
        ("CMYK", "tiff", 0),
        ("CMYK", "jpg", 3),
        ("YCbCr", "jpg", 3),
    ],
)
def test_a_colour_stays_itself_in_every_mode(tmp_path, mode, suffix, tolerance):
    Image.new("RGB", (16, 16), RED).convert(mode, palette=Image.Palette.ADAPTIVE).save(
        tmp_path / f"red.{suffix}", quality=100
    )
    opened = open_image(tmp_path / f"red.{suffix}")
    assert opened.mode == "RGB"
    assert np.abs(np.asarray(opened).astype(int) - RED).max() <= tolerance


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_becomes_three_equal_channels(tmp_path, mode):
    Image.new(mode, (4, 4), 255).save(tmp_path / "grey.png")
    assert np.asarray(open_image(tmp_path / "grey.png")).tolist() == [[[255] * 3] * 4] * 4


@pytest.mark.parametrize(("suffix", "dtype"), [("png", np.uint16), ("tiff", np.uint16), ("tiff", np.int32)])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix, dtype):
    values = np.array([[0, 257, 32896, 65535]], dtype=dtype)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    opened = np.asarray(open_image(tmp_path / f"deep.{suffix}"))
    assert opened[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_alpha_is_laid_over_white(tmp_path):
    pixels = np.array([[[200, 10, 30, 0], [200, 10, 30, 255], [200, 10, 30, 51]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "glass.png")
    opened = np.asarray(open_image(tmp_path / "glass.png"))[0].astype(int)
    mixed = [0.2 * c + 0.8 * 255 for c in RED]
    assert np.abs(opened - [[255] * 3, RED, mixed]).max() <= 1


def test_transparency_of_a_palette_and_of_a_colour_is_laid_over_white(tmp_path):
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([*RED, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=0)
    Image.new("RGB", (1, 1), RED).save(tmp_path / "colour.png", transparency=RED)
    assert np.asarray(open_image(tmp_path / "palette.png"))[0].tolist() == [[255] * 3, [0, 0, 255]]
    assert np.asarray(open_image(tmp_path / "colour.png"))[0, 0].tolist() == [255] * 3


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "moving.gif").getpixel((0, 0)) == RED


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp", "gif", "bmp"])
def test_a_truncated_file(tmp_path, suffix):
    file = tmp_path / f"photo.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    whole = file.read_bytes()
    for length in (len(whole) * 2 // 3, 40):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"photo\.{suffix} (cannot be read as|is not) an image"):
            open_image(file)


@pytest.mark.parametrize("content", [b"", b"just words", b"%PDF-1.4"])
def test_a_file_that_is_no_image(tmp_path, content):
    (tmp_path / "notes.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.jpg is not an image that Pillow can read"):
        open_image(tmp_path / "notes.jpg")


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "absent.jpg", tmp_path):
        with pytest.raises(ValueError, match=f"{path} is not a file"):
            open_image(path)


@pytest.mark.parametrize("side", [11, 20])  # Pillow itself warns from 100 pixels and refuses from 200
def test_an_enormous_image(tmp_path, monkeypatch, side):
    Image.new("RGB", (side, side)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        ValueError, match=r"huge\.png is too large: .*Make it smaller, or raise PIL\.Image\.MAX"
    ):
        open_image(tmp_path / "huge.png")


def test_float_pixels_and_wide_integers_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "wide.tiff")
    Image.fromarray(np.array([[0.0, 1.0]], dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match=r"wide\.tiff .* from 0 to 70000 are not 16-bit"):
        open_image(tmp_path / "wide.tiff")
    with pytest.raises(ValueError, match=r"float\.tiff .*floating-point"):
        open_image(tmp_path / "float.tiff")
