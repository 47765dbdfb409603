import copy

import pytest
import torch
from fakes import conv_net
from torch import nn

from torchnle.methods.aligned.fit import fallback_domains
from torchnle.methods.aligned.reader import Reader
from torchnle.methods.aligned.text_features import statistics
from torchnle.methods.aligned.text_features.statistics import DomainSums, batch_statistics, contentless
from torchnle.vision import taps


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestDomainSums:
    @pytest.mark.parametrize("parts", [1, 4, 13])
    def test_means_are_those_of_all_rows(self, parts):
        pooled, locations = drawn(13, 5) + 1, drawn(13, 6, 5, seed=1)
        sums = DomainSums(5)
        for chunk in torch.arange(13).chunk(parts):
            sums.add(pooled[chunk], locations[chunk].flatten(0, 1))
        found = sums.solve()
        torch.testing.assert_close(found.center, pooled.mean(dim=0))
        assert found.pooled_norm == pytest.approx(pooled.norm(dim=1).mean().item(), rel=1e-5)
        assert found.location_norm == pytest.approx(locations.flatten(0, 1).norm(dim=1).mean().item())

    def test_no_picture(self):
        with pytest.raises(ValueError, match="no pictures were given"):
            DomainSums(3).solve()

    def test_the_sample_is_even(self, monkeypatch):
        """Chi-square over 40 rows of which 10 are kept, 400 seeds; 39 degrees of freedom: 72.1 at .001."""
        monkeypatch.setattr(statistics, "RESERVOIR", 10)
        rows = torch.arange(40.0)[:, None]
        kept = torch.zeros(40)
        for seed in range(400):
            sums = DomainSums(1, seed=seed)
            for chunk in rows.split(7):
                sums.add(chunk, chunk)
            assert [int(row) for row in sums.sample] == sums.sampled
            assert len(set(sums.sampled)) == 10
            kept[sums.sampled] += 1
        expected = 400 * 10 / 40
        # without replacement the counts vary by 1 - 10/40 less than those of a multinomial
        assert ((kept - expected).square().sum() / expected / (1 - 10 / 40)).item() < 72.1

    def test_a_sample_of_few_is_all_of_them_and_keeps_no_batch_alive(self):
        sums = DomainSums(2)
        batch = drawn(64, 2)
        sums.add(batch, batch)
        assert torch.equal(torch.stack(sums.sample), batch)
        assert all(row.untyped_storage().nbytes() == 8 for row in sums.sample)


class BrokenError(Exception):
    pass


def state(model):
    tensors = {k: (v, v.clone(), v._version) for k, v in model.state_dict(keep_vars=True).items()}
    return tensors, [module.training for module in model.modules()]


def normed(train=False):
    model = conv_net()
    model.norm.running_mean.copy_(drawn(6))
    model.norm.running_var.copy_(drawn(6).square() + 0.5)
    model.norm.weight.data.copy_(drawn(6, seed=1))
    model.norm.bias.data.copy_(drawn(6, seed=2))
    return model.train(train)


class TestBatchStatistics:
    @pytest.mark.parametrize("train", [True, False])
    @pytest.mark.parametrize("fails", [True, False])
    def test_leaves_no_trace(self, train, fails):
        model = normed(train)
        before, flags = state(model)
        try:
            with batch_statistics(model) as found:
                assert found
                model(drawn(4, 3, 8, 8))
                if fails:
                    raise BrokenError
        except BrokenError:
            pass
        after, flags_after = state(model)
        assert flags == flags_after
        assert list(before) == list(after)
        for name, (tensor, values, version) in before.items():
            assert after[name][0] is tensor, name
            assert torch.equal(after[name][1], values)
            assert after[name][2] == version

    def test_normalises_by_the_batch_in_evaluation_too(self):
        model = normed()
        images = drawn(4, 3, 8, 8)
        with batch_statistics(model), torch.no_grad():
            given = model.norm(model.layer(model.act(model.stem(images))))
        torch.testing.assert_close(given.mean(dim=(0, 2, 3)), model.norm.bias.detach(), atol=1e-5, rtol=0)

    def test_a_model_without_such_layers(self):
        with batch_statistics(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))) as found:
            assert not found

    def test_a_layer_that_tracks_nothing(self):
        model = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False))
        with batch_statistics(model) as found:
            assert found
        assert model[0].running_mean is None


class TestFallback:
    def deep(self, images):
        """A net whose batch normalisations have seen the images."""
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
        )
        for module in model:
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.weight.data.copy_(torch.rand(module.num_features) + 0.5)
                module.bias.data.copy_(torch.randn(module.num_features))
        model.train()(images)
        return model.eval()

    def test_approximates_the_center_of_normal_images(self):
        """Images whose pixels are correlated, shifted and scaled: unlike the noise that is run."""
        blurred = nn.functional.avg_pool2d(drawn(200, 3, 20, 20, seed=3), 5, stride=1)
        images = blurred * torch.tensor([4.0, 1.0, 2.0]).view(1, 3, 1, 1) + 1.5
        model = self.deep(images)
        reader = Reader(model, taps.resolve(model, "5"))
        (pooled, locations) = reader.rows(images)["5"]
        found = fallback_domains(reader, images[:1])["5"]
        true = pooled.mean(dim=0)
        assert (found.center - true).norm() < 0.1 * true.norm()
        assert found.location_norm == pytest.approx(locations.norm(dim=1).mean().item(), rel=0.15)
        assert found.center.norm() <= found.pooled_norm <= found.location_norm

    def test_without_normalisation_the_center_is_zero(self):
        model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh())
        found = fallback_domains(Reader(model, taps.resolve(model, "1")), drawn(1, 3, 8, 8))["1"]
        assert torch.equal(found.center, torch.zeros(5))
        assert 0 < found.pooled_norm < found.location_norm

    def test_a_model_in_training_stays_as_it_was(self):
        model = normed(train=True)
        before = copy.deepcopy(model.state_dict())
        fallback_domains(Reader(model, taps.resolve(model, "norm")), drawn(1, 3, 8, 8))
        assert model.training
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class TestContentless:
    @pytest.mark.parametrize("size", [(3, 32, 32), (1, 5, 9), (4, 1, 1)])
    def test_the_same_each_time_whatever_the_global_seed(self, size):
        example = torch.zeros(1, *size)
        first = contentless(example, 8)
        torch.manual_seed(5)
        assert torch.equal(first, contentless(example, 8))
        assert first.shape == (8, *size)
        assert first.isfinite().all()

    def test_every_second_is_constant_and_no_two_are_alike(self):
        pictures = contentless(torch.zeros(2, 3, 64, 64))
        flat = pictures.flatten(2).std(dim=2).amax(dim=1)
        assert (flat[1::2] < 1e-6).all()
        assert (flat[::2][:-1] > 0.1).all()  # the coarsest grain is one for the whole picture
        assert torch.pdist(pictures.flatten(1)).min() > 1

    def test_dtype(self):
        assert contentless(torch.zeros(1, 3, 4, 4, dtype=torch.float16)).dtype == torch.float16
