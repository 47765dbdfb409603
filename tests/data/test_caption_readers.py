"""Captions of a file are read, or refused, or counted and named."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
import torch
from PIL import Image
from torch import nn

from torchnle.data.captions import CaptionedImage, CaptionFile, CaptionList, digest
from torchnle.data.readers.caption_files import read_captions
from torchnle.data.readers.caption_shards import CaptionShards
from torchnle.training.supply import LiveFeatures


def picture():
    raw = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(raw, "png")
    return raw.getvalue()


def shard(folder, files, name="a.tar"):
    with tarfile.open(folder / name, "w") as tar:
        for member, content in files:
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return folder / name


class TestShards:
    @pytest.fixture(autouse=True)
    def _webdataset(self):
        pytest.importorskip("webdataset")

    @pytest.mark.parametrize("key", ["22.05", "a.b.c", "v1.0/7", "x"])
    def test_names_with_dots(self, tmp_path, key):
        found = CaptionShards(shard(tmp_path, [(f"{key}.png", picture()), (f"{key}.txt", b"a hen")]))
        assert [found[i].captions for i in range(len(found))] == [("a hen",)]

    @pytest.mark.parametrize(
        "raw", [b"\xef\xbb\xbfa hen", "a hen".encode("utf-16"), b"a hen\r\n", b"\n a hen \n\n"]
    )
    def test_encodings(self, tmp_path, raw):
        assert CaptionShards(shard(tmp_path, [("0.png", picture()), ("0.txt", raw)]))[0].captions == (
            "a hen",
        )

    @pytest.mark.parametrize("raw", [b"\xff\xfa a", b" \n", b"a" * 20_000])
    def test_odd_captions_name_their_pair(self, tmp_path, raw):
        found = CaptionShards(shard(tmp_path, [("0.png", picture()), ("0.txt", raw)]))
        with pytest.raises(ValueError, match=r"a\.tar/0"):
            found[0]

    @pytest.mark.parametrize(
        ("files", "why"),
        [
            ([("1.png", b"x")], "no caption"),
            ([("1.txt", b"x")], "no image"),
            ([("0.png", b"x")], "second image"),
            ([("0.jpg", b"x")], "second image"),
            ([("0.txt", b"x")], "second txt"),
            ([("9.5.png", b"x")], "no caption"),
        ],
    )
    def test_what_is_left_out_is_an_error_or_counted(self, tmp_path, files, why):
        path = shard(tmp_path, [("0.png", picture()), ("0.txt", b"a hen"), *files])
        with pytest.raises(ValueError, match=why):
            CaptionShards(path)
        found = CaptionShards(path, strict=False)
        assert len(found) == len(found.skipped) == 1
        assert why in next(iter(found.skipped.values()))

    def test_further_parts_of_an_example_are_no_examples(self, tmp_path):
        files = [("0.png", picture()), ("0.txt", b"a hen"), ("0.seg.png", picture()), ("0.json", b"{}")]
        assert len(CaptionShards(shard(tmp_path, files))) == 1

    @pytest.mark.parametrize("kept", [600, 1100, 1600])
    def test_a_cut_shard(self, tmp_path, kept):
        path = shard(tmp_path, [("0.png", picture() * 9), ("0.txt", b"a hen" * 50)])
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ValueError, match=r"a\.tar"):
            CaptionShards(path)


class TestFiles:
    def read(self, tmp_path, name, text, encoding="utf-8", **options):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return read_captions(file, **options)

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_separators_and_encodings(self, tmp_path, separator, encoding):
        text = f"image{separator}caption\r\n0.png{separator}a café\r\n"
        assert self.read(tmp_path, "a.csv", text, encoding) == {"0.png": ["a café"]}

    @pytest.mark.parametrize(
        "rows",
        [
            "0.png,a black dog, running\n",
            '0.png,"a black dog\n1.png,a cat\n',
            '0.png,"a dog"s bone"\n',
            "0.png\n",
            '0.png,"' + "a" * 140_000 + '"\n',
        ],
    )
    def test_rows_that_are_cut_or_swallowed(self, tmp_path, rows):
        with pytest.raises(ValueError, match=r"a\.csv, line"):
            self.read(tmp_path, "a.csv", f"image,caption\n{rows}")

    def test_quoted_separators_and_lines(self, tmp_path):
        found = self.read(tmp_path, "a.csv", 'image,caption\n0.png,"a dog, running"\n')
        assert found == {"0.png": ["a dog, running"]}

    @pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
    def test_line_separators_within_json_strings(self, tmp_path, character):
        record = json.dumps({"image": "0.png", "caption": f"a{character}b"}, ensure_ascii=False)
        if ord(character) < 32:
            record = json.dumps({"image": "0.png", "caption": f"a{character}b"})
        assert self.read(tmp_path, "a.jsonl", record) == {"0.png": [f"a{character}b"]}

    @pytest.mark.parametrize(
        "caption", ["", "  ", None, 3, [], ["a", ""], "a" * 10_001, "a \ud800", "\ufeff"]
    )
    def test_odd_captions_are_an_error_or_counted(self, tmp_path, caption):
        lines = [{"image": "0.png", "caption": "a hen"}, {"image": "1.png", "caption": caption}]
        text = "\n".join(map(json.dumps, lines))
        with pytest.raises(ValueError, match=r"a\.jsonl, line 2"):
            self.read(tmp_path, "a.jsonl", text)
        skipped = {}
        assert self.read(tmp_path, "a.jsonl", text, skipped=skipped) == {"0.png": ["a hen"]}
        assert list(skipped) == ["line 2"]

    @pytest.mark.parametrize(
        "content",
        [
            {"images": [None], "annotations": []},
            {"images": 3, "annotations": []},
            {"images": [], "annotations": [None]},
            {"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 1, "bbox": [0, 0]}]},
            {"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 1, "caption": None}]},
            {"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 1, "caption": " "}]},
            {
                "images": [{"id": 1, "file_name": "A" * 5000}],
                "annotations": [{"image_id": 1, "caption": "a"}],
            },
            {"images": [{"id": 1, "file_name": "a\0b"}], "annotations": [{"image_id": 1, "caption": "a"}]},
            {"images": [{"id": [1]}], "annotations": [{"image_id": {}, "caption": "a"}]},
            [],
        ],
    )
    def test_odd_coco_files(self, tmp_path, content):
        with pytest.raises(ValueError, match=r"a\.json"):
            self.read(tmp_path, "a.json", json.dumps(content))

    def test_deep_json(self, tmp_path):
        with pytest.raises(ValueError, match="not JSON"):
            self.read(tmp_path, "a.json", "[" * 100_000)

    def test_a_file_counts_what_it_leaves_out(self, tmp_path):
        (tmp_path / "0.png").write_bytes(picture())
        text = (
            '{"image": "0.png", "caption": "a hen"}\n{"image": "1.png", "caption": "b"}\n{"image": "0.png"}'
        )
        (tmp_path / "a.jsonl").write_text(text)
        found = CaptionFile(tmp_path / "a.jsonl", strict=False)
        assert len(found) == 1
        assert set(found.skipped) == {"1.png", "line 3"}

    def test_names_that_are_no_utf8(self):
        assert len(digest(["caf\udce9.png"])) == 64


def test_training_skips_an_odd_caption_and_names_its_pair():
    good = CaptionedImage(Image.new("RGB", (8, 8)), ("a hen",))
    source = CaptionList([good, CaptionedImage(good.image, ("a \ud800",)), CaptionedImage(good.image, ("",))])

    def preprocess(image):
        return torch.zeros(3, 8, 8)

    live = LiveFeatures(nn.Sequential(nn.Conv2d(3, 4, 4, 4)), ["0"], source, preprocess)
    (batch,) = live.batches([[0, 1]])
    assert batch.captions == [("a hen",), ("a hen",)]
    assert "pair 1" in batch.unreadable[1]
