from __future__ import annotations

import io
import json
import sys
import tarfile

import pytest
from PIL import Image

from torchnle.data import CaptionDataset, CaptionedImage, CaptionFile, CaptionList, CaptionShards, Mixture
from torchnle.errors import MissingDependencyError

COLOURS = {"0.png": "red", "1.png": "green", "deep/2.png": "blue"}
EXPECTED = {"0.png": ("a red square", "red"), "1.png": ("a green square",), "deep/2.png": ("a blue square",)}
RGB = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (4, 4), colour).save(images / name)
    return images


def lines():
    return [(name, caption) for name, captions in EXPECTED.items() for caption in captions]


def jsonl(folder, records=None):
    records = [{"image": n, "caption": c} for n, c in lines()] if records is None else records
    file = folder / "captions.jsonl"
    file.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    return file


def csv(folder):
    file = folder / "captions.csv"
    file.write_text("file_name,text\n" + "".join(f'{n},"{c}"\n' for n, c in lines()))
    return file


def coco(folder):
    file = folder / "captions.json"
    ids = {name: 7 + i for i, name in enumerate(EXPECTED)}
    content = {
        "images": [{"id": i, "file_name": name} for name, i in ids.items()],
        "annotations": [{"id": k, "image_id": ids[n], "caption": c} for k, (n, c) in enumerate(lines())],
    }
    file.write_text(json.dumps(content))
    return file


def read(source):
    return {
        pair.image.getpixel((0, 0)): pair.captions for pair in map(source.__getitem__, range(len(source)))
    }


class TestFile:
    @pytest.mark.parametrize("write", [jsonl, csv, coco])
    def test_every_form_gives_the_same_pairs(self, folder, write):
        source = CaptionFile(write(folder))
        assert read(source) == {RGB[COLOURS[name]]: captions for name, captions in EXPECTED.items()}

    def test_lists_of_captions_other_keys_and_another_folder(self, folder, tmp_path):
        records = [{"img": name, "said": list(captions)} for name, captions in EXPECTED.items()]
        file = jsonl(tmp_path, records)
        source = CaptionFile(file, folder, image_key="img", caption_key="said")
        assert [source[i].captions for i in range(3)] == list(EXPECTED.values())

    def test_quotes_and_line_breaks_in_csv(self, folder):
        (folder / "c.csv").write_text('image,caption\n0.png,"red, ""bright""\nand square"\n')
        assert CaptionFile(folder / "c.csv", strict=False)[0].captions == ('red, "bright"\nand square',)

    def test_the_fingerprint_changes_with_captions_and_images(self, folder):
        file = jsonl(folder)
        first = CaptionFile(file).fingerprint
        assert CaptionFile(file).fingerprint == first
        Image.new("RGB", (5, 5), "red").save(folder / "0.png")
        second = CaptionFile(file).fingerprint
        jsonl(folder, [{"image": n, "caption": c.upper()} for n, c in lines()])
        assert len({first, second, CaptionFile(file).fingerprint}) == 3

    def test_an_unreadable_image_is_named(self, folder):
        source = CaptionFile(jsonl(folder))
        (folder / "1.png").write_bytes(b"no image")
        with pytest.raises(ValueError, match=r"1\.png is not an image"):
            source[1]
        assert source[2].captions == ("a blue square",)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("c.jsonl", "", "holds no caption"),
            ("c.csv", "image,caption\n", "holds no caption"),
            ("c.json", '{"images": [], "annotations": []}', "holds no caption"),
            ("c.jsonl", '{"image": "0.png", "caption": "a"}\n{"image": ', "line 2 is not JSON"),
            ("c.jsonl", '["0.png", "a"]', "line 1: one JSON object a line"),
            ("c.jsonl", '{"image": "0.png", "caption": " "}', "line 1: a caption must be a text"),
            ("c.jsonl", '{"image": "0.png", "caption": ["a", 3]}', "a caption must be a text"),
            (
                "c.jsonl",
                '{"image": "0.png", "title_": "a"}',
                "needs one of captions, .* and has image, title_",
            ),
            ("c.csv", "picture,caption\n0.png,a\n", "line 2: needs one of image, "),
            ("c.json", "[]", "is not COCO's"),
            ("c.json", '{"images": [], "annotations": [{"image_id": 3}]}', "image_id 3 is none of the 0"),
            ("c.txt", "a", "captions are read from .jsonl, .csv, .tsv, .json, not '.txt'"),
        ],
    )
    def test_bad_files(self, folder, name, text, message):
        (folder / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            CaptionFile(folder / name)

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"is not a file; pass a \.jsonl"):
            CaptionFile(tmp_path / "captions.jsonl")

    @pytest.mark.parametrize("strict", [True, False])
    @pytest.mark.parametrize("write", ["csv", "jsonl", "coco"])
    @pytest.mark.parametrize(
        "name",
        [
            "../secret.png",
            "deep/../../secret.png",
            "./../secret.png",
            "{outside}/secret.png",
            "../images2/a.png",
        ],
    )
    def test_images_outside_the_folder(self, folder, tmp_path, strict, write, name):
        (tmp_path / "images2").mkdir()
        for path in ("secret.png", "images2/a.png"):
            Image.new("RGB", (4, 4)).save(tmp_path / path)
        name = name.format(outside=tmp_path)
        file = folder / f"c.{'json' if write == 'coco' else write}"
        file.write_text(
            {
                "csv": f"image,caption\n0.png,a\n{name},a\n",
                "jsonl": json.dumps({"image": "0.png", "caption": "a"})
                + "\n"
                + json.dumps({"image": name, "text": "a"}),
                "coco": json.dumps(
                    {
                        "images": [{"id": 1, "file_name": name}],
                        "annotations": [{"image_id": 1, "caption": "a"}],
                    }
                ),
            }[write]
        )
        with pytest.raises(ValueError, match="outside") as caught:
            CaptionFile(file, strict=strict)
        assert repr(name)[1:20] in str(caught.value)

    def test_detours_and_links_within_the_folder(self, folder, tmp_path):
        Image.new("RGB", (4, 4), "red").save(tmp_path / "elsewhere.png")
        (folder / "linked.png").symlink_to(tmp_path / "elsewhere.png")
        names = ["deep/../1.png", str(folder.resolve() / "0.png"), "linked.png"]
        source = CaptionFile(jsonl(folder, [{"image": n, "caption": "a"} for n in names]), strict=False)
        found = [source[i].image.getpixel((0, 0)) for i in range(3)]
        assert found == [RGB["green"], RGB["red"], RGB["red"]]

    def test_text_of_another_encoding(self, folder):
        (folder / "c.csv").write_bytes("image,caption\n0.png,caf\xe9\n".encode("latin-1"))
        with pytest.raises(ValueError, match="is not UTF-8"):
            CaptionFile(folder / "c.csv")

    def test_captions_without_images(self, folder):
        (folder / "1.png").unlink()
        with pytest.raises(ValueError, match=r"1 of 3 images that .* captions for are not in .*: 1\.png"):
            CaptionFile(jsonl(folder))
        assert len(CaptionFile(jsonl(folder), strict=False)) == 2

    def test_images_without_captions(self, folder):
        Image.new("RGB", (4, 4)).save(folder / "mute.webp")
        with pytest.raises(ValueError, match=r"1 images in .* have no caption in .*: mute\.webp"):
            CaptionFile(jsonl(folder))
        assert len(CaptionFile(jsonl(folder), strict=False)) == 3

    def test_no_image_at_all(self, folder, tmp_path):
        with pytest.raises(ValueError, match=r"none of the 3 images that .* names is in .* Pass images="):
            CaptionFile(jsonl(folder), tmp_path, strict=False)


def shard(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def picture(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


class TestShards:
    def shards(self, folder):
        first = {"0.png": picture("red"), "0.txt": b"a red square\nred\n", "0.json": b"{}"}
        first |= {"x/1.txt": b"a green square", "x/1.png": picture("green")}
        second = {"0.jpg.meta": b"", "0.PNG": picture("blue"), "0.txt": b" a blue square "}
        shard(folder / "cc-0.tar", first)
        shard(folder / "cc-1.tar", second)
        return str(folder / "cc-{0..1}.tar")

    def test_pairs_in_the_order_of_the_shards(self, tmp_path):
        source = CaptionShards(self.shards(tmp_path))
        assert read(source) == {RGB[colour]: EXPECTED[name] for name, colour in COLOURS.items()}
        assert source.chunks == (0, 0, 1)
        assert source[2].captions == ("a blue square",)

    def test_what_webdataset_writes(self, tmp_path):
        import webdataset

        with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
            for key, colour in enumerate(("red", "blue")):
                image = Image.new("RGB", (4, 4), colour)
                writer.write({"__key__": f"{key:04}", "png": image, "txt": f"a {colour} square"})
        assert read(CaptionShards([tmp_path / "w.tar"])) == {
            RGB[colour]: (f"a {colour} square",) for colour in ("red", "blue")
        }

    def test_an_unreadable_image_is_named(self, tmp_path):
        shard(tmp_path / "a.tar", {"0.jpg": b"no image", "0.txt": b"a"})
        with pytest.raises(ValueError, match=r"a\.tar/0 is not an image"):
            CaptionShards([str(tmp_path / "a.tar")])[0]

    @pytest.mark.parametrize(
        ("lacking", "message"), [("0.txt", "no caption"), ("0.jpg", r"no image \(avif, bmp")]
    )
    def test_half_pairs(self, tmp_path, lacking, message):
        members = {"0.jpg": picture("red"), "0.txt": b"a", "1.jpg": picture("red"), "1.txt": b"a"}
        del members[lacking]
        path = str(shard(tmp_path / "a.tar", members))
        with pytest.raises(ValueError, match=f"'0' has {message}.*strict=False"):
            CaptionShards(path)
        assert len(CaptionShards(path, strict=False)) == 1

    def test_no_tar_and_no_pair(self, tmp_path):
        (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
        with pytest.raises(ValueError, match="not a whole, uncompressed tar file"):
            CaptionShards(str(tmp_path / "a.tar"))
        with pytest.raises(ValueError, match="no image with a caption in"):
            CaptionShards(str(shard(tmp_path / "b.tar", {"0.cls": b"1"})))

    def test_without_webdataset(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "webdataset", None)
        monkeypatch.setitem(sys.modules, "webdataset.cache", None)
        with pytest.raises(MissingDependencyError, match=r"torchnle\[data\]"):
            CaptionShards("a.tar")


class TestDataset:
    def records(self):
        (red, green, blue) = (Image.new("L", (4, 4), 10), picture("green"), {"bytes": picture("blue")})
        return [
            {"image": red, "caption": "a red square "},
            {"image": green, "caption": ["a green square"]},
            {"image": blue, "caption": "a blue square"},
        ]

    def test_images_in_every_form(self):
        source = CaptionDataset(self.records())
        assert [source[i].image.getpixel((0, 0)) for i in range(3)] == [(10,) * 3, RGB["green"], RGB["blue"]]
        assert [source[i].captions[0] for i in range(3)] == [f"a {c} square" for c in COLOURS.values()]

    def test_a_path_as_the_library_keeps_it_undecoded(self, folder):
        source = CaptionDataset([{"image": {"bytes": None, "path": str(folder / "0.png")}, "caption": "a"}])
        assert source[0].image.getpixel((0, 0)) == RGB["red"]

    def test_the_library_itself(self):
        datasets = pytest.importorskip("datasets")
        rows = datasets.Dataset.from_list(
            [{"image": {"bytes": picture("blue"), "path": None}, "text": "blue"}]
        )
        rows = rows.cast_column("image", datasets.Image())
        source = CaptionDataset(rows, caption="text")
        assert source[0].image.getpixel((0, 0)) == RGB["blue"]
        assert (
            source.fingerprint
            != CaptionDataset(rows.map(lambda row: {"text": "b"}), caption="text").fingerprint
        )

    def test_bad_data_sets(self):
        with pytest.raises(TypeError, match="without streaming=True"):
            CaptionDataset(iter([{}]))
        with pytest.raises(ValueError, match="cc3m is empty"):
            CaptionDataset([], name="cc3m")
        with pytest.raises(ValueError, match=r"no column 'captions'\. Nearest: caption"):
            CaptionDataset(self.records(), caption="captions")
        with pytest.raises(ValueError, match=r"row 0: a caption must be a text .* not \[\]"):
            CaptionDataset([{"image": picture("red"), "caption": []}])[0]
        with pytest.raises(ValueError, match="row 0 holds no image but int"):
            CaptionDataset([{"image": 3, "caption": "a"}])[0]

    def test_what_the_library_cannot_decode_is_a_value_error(self):
        class Rows(list):
            column_names = ("image", "caption")

            def __getitem__(self, index):
                raise OSError("broken data stream")

        with pytest.raises(ValueError, match="the data set, row 0 cannot be read as an image: broken data"):
            CaptionDataset(Rows([0]))[0]


class TestMixture:
    def test_numbers_run_through_all_sources(self):
        def square(name):
            return CaptionedImage(Image.new("RGB", (2, 2)), (name,))

        parts = [CaptionList([square("a"), square("b")]), CaptionList([]), CaptionList([square("c")])]
        mixture = Mixture(parts)
        assert [mixture[i].captions[0] for i in range(len(mixture))] == ["a", "b", "c"]
        assert mixture.ranges == (range(0, 2), range(2, 2), range(2, 3))
        assert mixture.chunks is None
        assert mixture.fingerprint != Mixture(parts[::-1]).fingerprint

    def test_shards_of_several_sources_stay_apart(self, tmp_path):
        members = {"0.jpg": picture("red"), "0.txt": b"a", "1.jpg": picture("red"), "1.txt": b"a"}
        shards = CaptionShards(str(shard(tmp_path / "a.tar", members)))
        loose = CaptionList([CaptionedImage(Image.new("RGB", (2, 2)), ("a",))] * 2)
        assert Mixture([shards, loose, shards]).chunks == [0, 0, 1, 2, 3, 3]
