from __future__ import annotations

import errno
import json
import os
import random

import pytest
import torch
from PIL import Image
from torch import nn
from toys import fork_and_kill

from torchnle.data import CaptionedImage, CaptionList
from torchnle.hub.digest import digest_module
from torchnle.training import feature_cache
from torchnle.training.feature_cache import CachedFeatures, cached
from torchnle.training.supply import LiveFeatures
from torchnle.vision.taps import Tap


class Preprocess:
    """Pixels as they are, for images of any size."""

    def __call__(self, image):
        values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return values.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255

    def __repr__(self):
        return "Preprocess()"


class Broken(CaptionList):
    """Some images cannot be read."""

    def __init__(self, pairs, bad):
        super().__init__(pairs)
        self.bad = bad

    def __getitem__(self, index):
        if index in self.bad:
            raise ValueError(f"{index}.jpg cannot be read as an image.")
        return super().__getitem__(index)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2)).eval()


def pairs(count=5, size=16):
    chance = random.Random(0)
    colour = lambda: tuple(chance.randrange(256) for _ in range(3))  # noqa: E731
    images = [Image.new("RGB", (size, size), colour()) for _ in range(count)]
    return [CaptionedImage(image, (f"number {i}", "a square")) for i, image in enumerate(images)]


def live(source=None, model=None, layers=("1", "2"), **options):
    source = CaptionList(pairs()) if source is None else source
    return LiveFeatures(model or net(), list(layers), source, options.pop("preprocess", Preprocess()))


class TestLive:
    def test_the_features_are_the_models(self):
        found, model = live(), net()
        (batch,) = found.batches([[3, 1]])
        for row, number in enumerate([3, 1]):
            x = Preprocess()(pairs()[number].image)[None]
            expected = model[:2](x)[0]
            torch.testing.assert_close(batch.tokens["1"][row], expected.flatten(1).T, atol=1e-6, rtol=1e-5)
        assert batch.captions == [("number 3", "a square"), ("number 1", "a square")]
        assert (found.location_counts, found.widths) == ({"1": 49, "2": 9}, {"1": 4, "2": 6})

    def test_the_next_readable_pair_stands_in(self):
        (batch,) = live(Broken(pairs(), bad={1, 2})).batches([[0, 1, 4]])
        assert [texts[0] for texts in batch.captions] == ["number 0", "number 3", "number 4"]
        assert batch.unreadable == {n: f"{n}.jpg cannot be read as an image." for n in (1, 2)}

    def test_after_the_last_comes_the_first(self):
        (batch,) = live(Broken(pairs(), bad={4})).batches([[4]])
        assert batch.captions[0][0] == "number 0"

    def test_nothing_can_be_read(self):
        with pytest.raises(ValueError, match=r"none of the 5 images from number 0 on can be read: 0\.jpg"):
            live(Broken(pairs(), bad=set(range(5))))

    def test_no_pair(self):
        with pytest.raises(ValueError, match="no image with a caption"):
            live(CaptionList(()))

    def test_a_layer_whose_size_changes_with_the_input(self):
        found = live(CaptionList([*pairs(2), *pairs(1, size=24)]))
        with pytest.raises(ValueError, match=r"layer '1' gave 49 locations .* and 121 now: its size changes"):
            list(found.batches([[0, 1], [2]]))
        with pytest.raises(ValueError, match=r"must have one size; .*16\) \(pair 1\), .*24\) \(pair 2\)"):
            list(found.batches([[1, 2]]))

    def test_mixed_widths(self):
        class Wavering(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Identity()

            def forward(self, x):
                return self.layer(x[:, : 2 if x.shape[0] > 1 else 3])

        found = live(model=Wavering(), layers=["layer"])
        with pytest.raises(ValueError, match="layer 'layer' gave 3 channels for the first image and 2 now"):
            list(found.batches([[0, 1]]))


def same(first, second):
    return all(torch.equal(first.tokens[layer], second.tokens[layer]) for layer in first.tokens) and (
        list(first.captions) == list(second.captions)
    )


class TestCache:
    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_it_holds_what_the_model_gives(self, tmp_path, dtype):
        source = Broken(pairs(70), bad={2, 40})
        found = cached(tmp_path / "cache", live(source), dtype=dtype)
        (expected,), (batch,) = (supply.batches([[69, 2, 35, 39, 40]]) for supply in (live(source), found))
        for layer, tokens in expected.tokens.items():
            tolerance = 1e-5 if dtype == "float32" else 1e-2  # batches of other sizes differ by a rounding
            stored = tokens.to(getattr(torch, dtype)).float()
            torch.testing.assert_close(batch.tokens[layer], stored, atol=1e-6, rtol=tolerance)
        assert list(batch.captions) == list(expected.captions)
        assert (found.location_counts, found.widths) == (live().location_counts, live().widths)
        assert sorted(found.unreadable) == ["2", "40"]
        size = sum(path.stat().st_size for path in (tmp_path / "cache").glob("layer*.bin"))
        assert size == 70 * (49 * 4 + 9 * 6) * getattr(torch, dtype).itemsize

    def test_it_is_opened_without_the_model(self, tmp_path):
        first = cached(tmp_path / "cache", live())

        class Silent(LiveFeatures):
            def batches(self, numbers):
                raise AssertionError("the model was run")

        silent = live()
        silent.__class__ = Silent
        (a,), (b,) = (s.batches([[0, 4]]) for s in (first, cached(tmp_path / "cache", silent)))
        assert same(a, b)

    @pytest.mark.parametrize(
        ("other", "part"),
        [
            ({"model": net(seed=1)}, "model"),
            ({"layers": ["1"]}, "layers"),
            ({"layers": [Tap("1", None, "input"), "2"]}, "layers"),
            ({"preprocess": lambda image: Preprocess()(image)}, "preprocessing"),
            ({"source": CaptionList(pairs(4))}, "data"),
        ],
    )
    def test_a_cache_of_another_is_refused(self, tmp_path, other, part):
        if isinstance(other.get("layers", [""])[0], Tap):
            model = net()
            other = {"model": model, "layers": [Tap("1", model[1], "input"), "2"]}
        cached(tmp_path / "cache", live())
        with pytest.raises(ValueError, match=f"is of another {part}. Name another folder, or delete it"):
            cached(tmp_path / "cache", live(**other))

    def test_another_dtype_is_refused(self, tmp_path):
        cached(tmp_path / "cache", live())
        with pytest.raises(ValueError, match="is of another dtype"):
            cached(tmp_path / "cache", live(), dtype="float32")

    def test_a_killed_build_goes_on(self, tmp_path, monkeypatch):
        monkeypatch.setattr(feature_cache, "_BATCH", 4)
        source = CaptionList(pairs(40))
        whole = cached(tmp_path / "whole", live(source))

        class Ticking(Preprocess):
            def __call__(self, image):
                self.tick()
                return super().__call__(image)

        def build(tick):
            Ticking.tick = staticmethod(tick)
            cached(tmp_path / "cut", live(source, preprocess=Ticking()))

        progress = []
        for ticks in (7, 10, 13):
            assert fork_and_kill(build, ticks, 0.003) == -9
            progress.append(json.loads((tmp_path / "cut.unfinished" / "progress.json").read_text())["read"])
        assert 0 < progress[0] < progress[1] < progress[2] < 40
        Ticking.tick = staticmethod(lambda: None)
        found = cached(tmp_path / "cut", live(source, preprocess=Ticking()))
        (a,), (b,) = (supply.batches([list(range(40))]) for supply in (whole, found))
        assert same(a, b)

    def test_a_full_disk_leaves_nothing(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left"):
            cached(tmp_path / "cache", live())
        assert list(tmp_path.iterdir()) == []

    def test_numbers_too_large_for_float16(self, tmp_path):
        model = net()
        nn.init.constant_(model[2].bias, 1e6)
        with pytest.raises(ValueError, match="'2' has numbers too large for float16"):
            cached(tmp_path / "cache", live(model=model), dtype="float16")

    def test_a_folder_that_holds_none(self, tmp_path):
        with pytest.raises(ValueError, match="holds no finished feature cache"):
            CachedFeatures(tmp_path)

    def test_a_digest_sees_one_changed_weight(self):
        model = net()
        before = digest_module(model)
        with torch.no_grad():
            model[0].weight[0, 0, 0, 0] += 1e-6
        assert digest_module(model) != before
