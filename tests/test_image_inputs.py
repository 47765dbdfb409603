"""Whatever a file is called and holds: it is an upright RGB picture, or a ValueError that names it."""

from __future__ import annotations

import io
import os
import random
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from torchnle import images
from torchnle.data import CaptionDataset, CaptionFile, load_cutouts
from torchnle.images import open_image, open_transparent, read_image, to_rgb
from torchnle.training.supply import LiveFeatures

POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(PWNED) (w) file closefile\nshowpage\n"
)
NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
SAVED = ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder of a test in which no program may start."""

    def refuse(*arguments, **_):
        pytest.fail(f"a program was started: {arguments}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "system", refuse)
    return tmp_path


def saved(kind, image=None, **options):
    buffer = io.BytesIO()
    (Image.fromarray(NOISE) if image is None else image).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


class TestFormats:
    @pytest.mark.parametrize("kind", SAVED)
    def test_raster_formats_are_read_whatever_the_name(self, folder, kind):
        Path("photo.txt").write_bytes(saved(kind))
        assert open_image("photo.txt").size == (32, 24)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "eps", "ps", "tiff"])
    @pytest.mark.parametrize("start", [b"", b"\xc5\xd0\xd3\xc6\x1e\0\0\0\xff\0\0\0" + b"\0" * 18])
    def test_postscript_is_never_run(self, folder, suffix, start):
        Path(f"photo.{suffix}").write_bytes(start + POSTSCRIPT)
        for opens in (open_image, open_transparent):
            with pytest.raises(ValueError, match=rf"photo\.{suffix} is not an image.*PNG or JPEG.*WEBP"):
                opens(f"photo.{suffix}")

    @pytest.mark.parametrize(
        "kind", ["EPS", "PDF", "ICNS", "ICO", "PCX", "SGI", "SPIDER", "TGA", "MSP", "XBM"]
    )
    def test_other_formats_are_refused(self, folder, kind):
        image = Image.fromarray(NOISE).convert({"MSP": "1", "XBM": "1", "SPIDER": "F"}.get(kind, "RGB"))
        Path("photo.jpg").write_bytes(saved(kind, image))
        with pytest.raises(ValueError, match=r"photo\.jpg is not an image"):
            open_image("photo.jpg")

    @pytest.mark.parametrize(
        "content", [b"", b"<svg/>", b"\xd7\xcd\xc6\x9a" + b"\0" * 40, b"GRIB" + b"\1" * 40]
    )
    def test_what_is_no_raster_picture(self, folder, content):
        Path("photo.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=r"photo\.jpg is not an image"):
            open_image("photo.jpg")

    def test_what_is_no_file(self, folder):
        os.mkfifo("pipe.jpg")
        for path in (".", "pipe.jpg", "none.jpg", "", "a\0b.jpg", "x" * 5000, "/dev/zero", "file:photo.jpg"):
            with pytest.raises(ValueError, match="is not a file"):
                open_image(path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, folder):
        Path("photo.png").write_bytes(saved("PNG"))
        Path("photo.png").chmod(0)
        with pytest.raises(ValueError, match=r"photo\.png cannot be read"):
            open_image("photo.png")


def what_is_read(data):
    try:
        return read_image(io.BytesIO(data), "photo.x").mode
    except ValueError as error:
        return f"ValueError: {str(error).split()[0]}"


@pytest.mark.parametrize("kind", SAVED)
def test_a_damaged_picture_is_rgb_or_a_value_error(folder, kind, recwarn):
    draws = random.Random(0)
    whole = saved(kind, **({"exif": exif(6)} if kind in ("AVIF", "JPEG", "PNG", "TIFF", "WEBP") else {}))
    for trial in range(60):
        changed = bytearray(whole)
        for _ in range(draws.choice([1, 3, 10])):
            changed[draws.randrange(min(len(changed), draws.choice([40, 200, 10**6])))] = draws.randrange(256)
        data = bytes(changed[: draws.randrange(len(changed))] if trial % 3 == 0 else changed)
        assert what_is_read(data) in ("RGB", "ValueError: photo.x")


@pytest.mark.parametrize("failure", [*images.FAILURES, Image.DecompressionBombError])
def test_whatever_a_decoder_raises_is_a_value_error(folder, monkeypatch, failure):
    class Failing(PngImagePlugin.PngImageFile):
        def load(self):
            raise failure("broken")

    monkeypatch.setitem(Image.OPEN, "PNG", (Failing, Image.OPEN["PNG"][1]))
    Path("photo.png").write_bytes(saved("PNG"))
    for opens in (open_image, open_transparent):
        with pytest.raises(ValueError, match=r"photo\.png.*broken"):
            opens("photo.png")


class TestPixels:
    @pytest.mark.parametrize("kind", ["AVIF", "JPEG", "PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_exif_turns_pictures_of_every_format(self, folder, kind, orientation):
        stored = np.full((24, 32, 3), 255, np.uint8)
        stored[:8, :8] = 0  # the dark corner is at the top left as it is stored
        Path("photo").write_bytes(saved(kind, Image.fromarray(stored), exif=exif(orientation)))
        grey = np.asarray(open_image("photo").convert("L")).astype(int)
        corners = {"top left": grey[2, 2], "top right": grey[2, -3], "bottom right": grey[-3, -3]}
        corners["bottom left"] = grey[-3, 2]
        dark = {1: "top left", 3: "bottom right", 6: "top right", 8: "bottom left"}[orientation]
        assert min(corners, key=corners.get) == dark
        assert corners[dark] < 60
        assert grey.shape == ((24, 32) if orientation in (1, 3) else (32, 24))

    @pytest.mark.parametrize(
        "tags", [b"", b"junk", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\x01\x12"]
    )
    def test_damaged_exif_turns_nothing(self, folder, recwarn, tags):
        Path("photo.jpg").write_bytes(saved("JPEG", exif=b"Exif\0\0" + tags))
        assert open_image("photo.jpg").size == (32, 24)

    def test_one_transparent_grey_of_sixteen_bits_is_laid_over_white(self, folder):
        values = np.array([[257, 514, 65535]], np.uint16)
        Path("photo.png").write_bytes(saved("PNG", Image.fromarray(values), transparency=257))
        assert np.asarray(open_image("photo.png"))[0, :, 0].tolist() == [255, 2, 255]

    def test_transparency_may_be_kept(self, folder):
        pixels = np.array([[[200, 10, 30, 0], [200, 10, 30, 51]]], np.uint8)
        Path("photo.png").write_bytes(saved("PNG", Image.fromarray(pixels)))
        assert np.array_equal(np.asarray(open_transparent("photo.png")), pixels)

    def test_a_mode_without_colours(self, folder):
        Path("photo.tiff").write_bytes(saved("TIFF", Image.fromarray(NOISE[..., 0]).convert("F")))
        with pytest.raises(ValueError, match=r"photo\.tiff.*floating-point"):
            open_transparent("photo.tiff")

    def test_the_most_pixels_may_be_lifted(self, folder, monkeypatch):
        Path("photo.png").write_bytes(saved("PNG"))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # of 768
        with pytest.raises(ValueError, match=r"photo\.png is too large: .*32 x 24"):
            open_image("photo.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert open_image("photo.png").size == (32, 24)


class TestOpenedAlready:
    def test_it_is_read_as_a_file_is(self, folder):
        pixels = np.array([[[200, 10, 30, 0], [200, 10, 30, 255]]], np.uint8)
        assert np.asarray(to_rgb(Image.fromarray(pixels), "x"))[0].tolist() == [[255] * 3, [200, 10, 30]]
        deep = Image.fromarray(np.array([[0, 32896, 65535]], np.uint16))
        assert np.asarray(to_rgb(deep, "x"))[0, :, 0].tolist() == [0, 128, 255]
        Path("photo.jpg").write_bytes(saved("JPEG", exif=exif(6)))
        with Image.open("photo.jpg") as image:
            assert to_rgb(image, "x").size == (24, 32)

    @pytest.mark.parametrize("content", [POSTSCRIPT, saved("TGA")])
    def test_formats_that_are_not_read_are_not_decoded(self, folder, content):
        with pytest.raises(ValueError, match=r"row 7 is a picture of the format (EPS|TGA)"):
            to_rgb(Image.open(io.BytesIO(content)), "row 7")

    def test_a_damaged_one(self, folder):
        with pytest.raises(ValueError, match="row 7 cannot be read"):
            to_rgb(Image.open(io.BytesIO(saved("PNG")[:300])), "row 7")


class TestEveryDoor:
    def test_data_sets_read_as_files_do(self, folder):
        glass = Image.fromarray(np.array([[[255, 0, 0, 0]]], np.uint8))
        deep = Image.fromarray(np.array([[32896]], np.uint16))
        rows = [{"image": image, "caption": "a"} for image in (glass, saved("PNG", glass), deep)]
        source = CaptionDataset(rows)
        assert [source[i].image.getpixel((0, 0)) for i in range(3)] == [(255,) * 3, (255,) * 3, (128,) * 3]

    def test_postscript_in_a_data_set(self, folder):
        Path("a.jpg").write_bytes(POSTSCRIPT)
        values = [POSTSCRIPT, {"bytes": POSTSCRIPT, "path": None}, "a.jpg", Image.open("a.jpg")]
        source = CaptionDataset([{"image": value, "caption": "a"} for value in values])
        for index in range(len(values)):
            with pytest.raises(ValueError, match=r"EPS|is not an image"):
                source[index]

    def test_what_a_library_would_decode_is_decoded_here(self, folder):
        class Feature:
            decode = True

            def __init__(self, decode=True):
                self.decode = decode

        class Rows:
            column_names = ("image", "caption")
            _fingerprint = "abc"

            def __init__(self, decode=True):
                self.features = {"image": Feature(decode)}

            def __len__(self):
                return 1

            def __getitem__(self, index):
                if self.features["image"].decode:
                    pytest.fail("the library decoded a picture")
                return {"image": {"bytes": saved("PNG"), "path": None}, "caption": "a"}

            def cast_column(self, name, feature):
                return Rows(feature.decode)

        source = CaptionDataset(Rows())
        assert source[0].image.size == (32, 24)
        assert source.fingerprint == CaptionDataset(Rows()).fingerprint

    def test_the_library_itself_decodes_nothing(self, folder):
        datasets = pytest.importorskip("datasets")
        glass = saved("PNG", Image.fromarray(np.array([[[255, 0, 0, 0]]], np.uint8)))
        rows = datasets.Dataset.from_list(
            [{"image": {"bytes": content, "path": None}, "caption": "a"} for content in (glass, POSTSCRIPT)]
        ).cast_column("image", datasets.Image())
        source = CaptionDataset(rows)
        assert source[0].image.getpixel((0, 0)) == (255, 255, 255)
        with pytest.raises(ValueError, match="the data set, row 1 is not an image"):
            source[1]

    @pytest.mark.parametrize("failure", [RuntimeError, SyntaxError, OSError, KeyError, IndexError])
    def test_what_a_library_raises_names_the_row(self, folder, failure):
        class Rows(list):
            column_names = ("image", "caption")

            def __getitem__(self, index):
                raise failure("broken")

        with pytest.raises(ValueError, match=r"birds, row 0 cannot be read .*broken"):
            CaptionDataset(Rows([0]), name="birds")[0]

    def test_training_leaves_unreadable_pictures_out_and_names_them(self, folder):
        contents = {"0.png": saved("PNG"), "1.jpg": POSTSCRIPT, "2.avif": saved("AVIF")[:60], "3.png": b""}
        for name, content in contents.items():
            Path(name).write_bytes(content)
        Path("c.csv").write_text("image,caption\n" + "".join(f"{name},a\n" for name in contents))
        supply = LiveFeatures(
            torch.nn.Sequential(torch.nn.Conv2d(3, 2, 8)),
            "0",
            CaptionFile("c.csv"),
            lambda image: torch.rand(3, image.height, image.width),
        )
        (batch,) = supply.batches([[0, 1]])
        assert sorted(batch.unreadable) == [1, 2, 3]
        assert "1.jpg" in batch.unreadable[1]

    def test_a_cutout_that_is_postscript_is_skipped(self, folder):
        hole = np.zeros((40, 40, 4), np.uint8)
        hole[5:35, 5:35] = 255
        for name, content in {"hen": saved("PNG", Image.fromarray(hole)), "trap": POSTSCRIPT}.items():
            Path(f"{name}.png").write_bytes(content)
            Path(f"{name}.txt").write_text(f"A {name}.")
        assert load_cutouts(folder).skipped == {"trap.png": "unreadable"}

    def test_no_module_opens_images_itself(self):
        package = Path(images.__file__).parent
        opens = re.compile(
            r"\bImage\.open\(|\bimread\(|\bImageFile\.Parser|\bdecode_(image|jpeg|png)\(|read_file\("
        )
        found = [
            f"{file.relative_to(package)}: {line.strip()}"
            for file in package.rglob("*.py")
            if file.name != "images.py"
            for line in file.read_text(encoding="utf-8").splitlines()
            if opens.search(line)
        ]
        assert found == []
