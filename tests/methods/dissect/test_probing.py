"""Probing against a full matrix: exemplars, maps, moments, correlations; killed, divided, resumed."""

import numpy as np
import pytest
import torch
from fakes import LetterTranslator, conv_net
from PIL import Image

from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.probe import EvidenceLayer, probe
from torchnle.methods.dissect.probing.sample import LocationSample
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.probing.store import Store
from torchnle.methods.dissect.probing.sums import DyadicSums
from torchnle.methods.dissect.probing.top import TopK
from torchnle.methods.dissect.probing.units import Channels, Directions, EncodedUnits, Groups
from torchnle.methods.dissect.words import TextScores
from torchnle.vision.taps import resolve

TEXTS = ("a cat", "grass", "sky")


def pictures(count=37):
    return list(torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3)))


def evidence(model):
    (tap,) = resolve(model, "layer")
    return EvidenceLayer(tap, scores=TextScores(LetterTranslator(), "layer", TEXTS))


def activations(model, images, layer="layer"):
    features = model[: [name for name, _ in model.named_children()].index(layer) + 1](torch.stack(images))
    return features.flatten(2).transpose(1, 2).detach()


def run(model, images, **options):
    settings = options.pop("settings", ProbeSettings(k=4, wide=9, sample=10_000, table=True, batch_size=5))
    return probe(model, "layer", ProbingSet(images), settings=settings, evidence=evidence(model), **options)


def same(first, second):
    one, two = (record.layers["layer"].streams.state() for record in (first, second))
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("summary", ["mean", "max"])
def test_record_is_that_of_the_full_matrix(summary):
    model, images = conv_net(), pictures()
    local = activations(model, images)
    pooled = local.mean(1) if summary == "mean" else local.amax(1)
    settings = ProbeSettings(summary=summary, k=4, wide=9, sample=10_000, batch_size=5)
    found = run(model, images, settings=settings).layers["layer"]
    order = pooled.argsort(0, descending=True).T
    assert torch.equal(found.images, order[:, :4])
    assert torch.equal(found.more_images, order[:, :9])
    for unit in range(6):
        torch.testing.assert_close(found.maps[unit], local[found.images[unit], :, unit])
    mean, deviation = found.moments
    torch.testing.assert_close(mean, pooled.mean(0))
    torch.testing.assert_close(deviation, pooled.std(0, unbiased=False))
    scores = LetterTranslator().embed(TEXTS)
    cosines = torch.nn.functional.normalize(local.mean(1), dim=1) @ scores.T
    wanted = np.corrcoef(pooled.T.numpy(), cosines.T.numpy())[:6, 6:]
    np.testing.assert_allclose(found.correlations().numpy(), wanted, atol=1e-4)
    weights = torch.randn(4, 6, generator=torch.Generator().manual_seed(5))
    linear = local.mean(1) @ weights.T
    wanted = np.corrcoef(pooled.T.numpy(), linear.T.numpy())[:6, 6:]
    np.testing.assert_allclose(found.linear_correlations(weights).numpy(), wanted, atol=1e-4)
    torch.testing.assert_close(found.quantile(0.9), local.flatten(0, 1).quantile(0.9, dim=0))


def slow_otsu(values):
    """The value whose classes, of values up to it and above it, have the least variance within."""

    def within(limit):
        parts = [[v for v in values if v <= limit], [v for v in values if v > limit]]
        return sum(len(p) * np.var(p) for p in parts if p)

    return min(sorted(set(values))[:-1], key=within)


def test_evidence_is_the_mean_where_the_map_is_high():
    model, images = conv_net(), pictures()
    local = activations(model, images)
    found = run(model, images).layers["layer"]
    for unit, rank in ((0, 0), (3, 2)):
        image = found.images[unit, rank]
        values = local[image, :, unit]
        high = values > slow_otsu(values.tolist())
        torch.testing.assert_close(found.evidence[unit, rank], local[image][high].mean(0))


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    model, images = conv_net(), pictures()
    whole = run(model, images)
    for stop in (0, 11, 29):

        class Killed(list):
            def __getitem__(self, index, stop=stop):
                if index == stop:
                    raise KeyboardInterrupt
                return super().__getitem__(index)

        folder, eager = (
            tmp_path / str(stop),
            ProbeSettings(k=4, wide=9, sample=10_000, table=True, batch_size=5, save_every=0.0),
        )
        common = {"settings": eager, "evidence": evidence(model), "cache": folder}
        with pytest.raises(KeyboardInterrupt):
            probe(model, "layer", ProbingSet(Killed(images), fingerprint="x"), **common)
        opened = []

        class Counted(list):
            def __getitem__(self, index, opened=opened):
                opened.append(index)
                return super().__getitem__(index)

        resumed = probe(model, "layer", ProbingSet(Counted(images), fingerprint="x"), **common)
        assert same(whole, resumed)
        assert len(opened) == 37 - stop // 5 * 5


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_give_the_bits_of_one(tmp_path, processes):
    model, images = conv_net(), pictures()
    whole = run(model, images)
    for number in range(processes - 1):
        with pytest.raises(TimeoutError, match="did not finish"):
            run(model, images, cache=tmp_path, process=number, processes=processes, patience=0)
    for number in reversed(range(processes)):
        merged = run(model, images, cache=tmp_path, process=number, processes=processes, patience=0)
        assert same(whole, merged)


def test_what_matters_is_in_the_hash(tmp_path):
    model, images = conv_net(), pictures()
    run(model, images, cache=tmp_path)
    with torch.no_grad():
        model.layer.bias += 1
    run(model, images, cache=tmp_path)
    run(model, images[:-1], cache=tmp_path)
    run(model, images, cache=tmp_path, units=Channels((1,)))
    assert len(list(tmp_path.glob("*.safetensors"))) == 4


def test_a_damaged_state_is_made_anew(tmp_path):
    model, images = conv_net(), pictures()
    whole = run(model, images, cache=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert same(whole, run(model, images, cache=tmp_path))


def test_a_full_disk_stops_nothing(tmp_path, monkeypatch, caplog):
    model, images = conv_net(), pictures()
    whole = run(model, images)

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "_replace", full)
    assert same(whole, run(model, images, cache=tmp_path))
    assert "No space left" in caplog.text
    with pytest.raises(OSError, match="could not be written"):
        run(model, images, cache=tmp_path, process=0, processes=2)


def test_units_are_channels_directions_groups_or_latents():
    model, images = conv_net(), pictures()
    local = activations(model, images)
    matrix = torch.eye(6)[[2, 5]]
    relu = torch.nn.ReLU()
    for units, wanted in (
        (Channels((5, 0)), local[..., [5, 0]]),
        (Directions(matrix, torch.tensor([1.0, 0.0])), local[..., [2, 5]] + torch.tensor([1.0, 0.0])),
        (Groups(((0, 1), (4,)), by="mean"), torch.stack([local[..., :2].mean(-1), local[..., 4]], -1)),
        (EncodedUnits(relu), local.relu()),
    ):
        found = run(model, images, units=units).layers["layer"]
        torch.testing.assert_close(found.values, wanted.mean(1).topk(4, dim=0).values.T)


def test_dead_units_are_said():
    model, images = conv_net(), pictures()
    units = EncodedUnits(
        lambda tokens: torch.cat([tokens, 0 * tokens[..., :1] + 2, -tokens[..., :1].abs()], -1), key="x"
    )
    found = run(model, images, units=units).layers["layer"]
    assert found.dead.tolist() == [False] * 6 + [True, True]


def test_several_layers_and_the_class_token_in_one_pass():
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(12, 4), torch.nn.Linear(4, 3)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            patches = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 16, 12)
            return self.second(self.first(torch.cat([patches.mean(1, keepdim=True), patches], 1)))

    from torchnle import Reading

    model, images = Tokens().eval(), pictures(12)
    reading = Reading(layout="NLD", grid=(4, 4), num_prefix_tokens=1)
    settings = ProbeSettings(summary="class token", k=2, wide=2, batch_size=6)
    found = probe(model, ["first", "second"], ProbingSet(images), settings=settings, reading=reading)
    assert model.calls == 2
    tokens = model.second(
        model.first(torch.stack(images).unfold(2, 2, 2).unfold(3, 2, 2).mean((2, 3)).flatten(1))
    )
    assert torch.equal(found.layers["second"].images, tokens.topk(2, dim=0).indices.T)


def test_unreadable_images_are_left_out_and_said(tmp_path):
    for number in range(6):
        Image.new("RGB", (8, 8), (40 * number, 10, 10)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    transform = lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255.0  # noqa: E731
    found = probe(
        conv_net(), "layer", ProbingSet(tmp_path, transform), settings=ProbeSettings(k=5, batch_size=2)
    )
    assert found.images == 5
    assert list(found.unreadable) == [3]
    assert "3.png" in found.unreadable[3]
    for file in tmp_path.glob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(ValueError, match="none of the 6 images"):
        probe(conv_net(), "layer", ProbingSet(tmp_path, transform), settings=ProbeSettings(k=5, batch_size=2))


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        ProbingSet([])
    with pytest.raises(ValueError, match="empty"):
        ProbingSet(tmp_path)
    with pytest.raises(ValueError, match="not a folder"):
        ProbingSet(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="3 readable images, fewer than the k=4"):
        run(conv_net(), pictures(3))
    with pytest.raises(TypeError, match="transform="):
        probe(conv_net(), "layer", ProbingSet([Image.new("RGB", (8, 8))]), settings=ProbeSettings(k=1))
    with pytest.raises(ValueError, match="cache="):
        run(conv_net(), pictures(), processes=2)
    with pytest.raises(ValueError, match="no class token"):
        run(conv_net(), pictures(), settings=ProbeSettings(summary="class token", k=1))
    with pytest.raises(ValueError, match="fingerprint"):
        run(conv_net(), pictures(), units=lambda tokens: tokens, cache=tmp_path)
    with pytest.raises(ValueError, match="key="):
        EncodedUnits(lambda tokens: tokens)
    with pytest.raises(ValueError, match="6 channels"):
        run(conv_net(), pictures(), units=Channels((6,)))
    with pytest.raises(ValueError, match="positive"):
        ProbeSettings(k=0)


def test_equal_values_are_the_earlier_images():
    values = torch.tensor([[1.0], [2.0], [2.0], [2.0]])
    first, second = TopK(1, 2), TopK(1, 2)
    first.add(torch.tensor([2, 3]), values[2:])
    second.add(torch.tensor([0, 1]), values[:2])
    first.merge(second)
    assert first.images.tolist() == [[1, 2]]


def test_sums_do_not_depend_on_who_adds_what():
    draws = torch.randn(13, 5, generator=torch.Generator().manual_seed(0)) * 1e6
    whole = DyadicSums()
    for batch, row in enumerate(draws):
        whole.add(batch, {"x": row})
    parts = [DyadicSums() for _ in range(3)]
    for batch in torch.randperm(13, generator=torch.Generator().manual_seed(1)).tolist():
        parts[batch % 3].add(batch, {"x": draws[batch]})
    parts[1].merge(parts[2])
    parts[1].merge(parts[0])
    assert torch.equal(whole.total()["x"], parts[1].total()["x"])
    assert len(whole.nodes) == 3  # 13 = 8 + 4 + 1
    torch.testing.assert_close(whole.total()["x"], draws.double().sum(0))


def test_sample_is_uniform_and_its_quantiles_near():
    sample = LocationSample(1, 4096)
    ramp = torch.arange(60_000, dtype=torch.float32).view(600, 100, 1)
    for start in range(0, 600, 50):
        sample.add(torch.arange(start, start + 50), ramp[start : start + 50])
    for q in (0.1, 0.5, 0.99):
        error = abs(sample.quantile(q).item() / 60_000 - q)
        assert error < 4 * (q * (1 - q) / 4096) ** 0.5
