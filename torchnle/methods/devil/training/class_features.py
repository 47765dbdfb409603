"""Training pairs without pictures: features drawn for a class from the classifier's head, and its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import tee

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.data.captions import digest
from torchnle.training.identity import supply_identity
from torchnle.training.moments import pooled_sample
from torchnle.training.randomness import generator
from torchnle.training.supply import Batch, Supply

#: The most by which a drawn class is ahead of all others, in nats of the head's answers.
_MOST_AHEAD = 6.0
#: What it may be short of that, and after how many steps that is given up.
_CLOSE, _MOST_STEPS = 1e-2, 200
#: Of how many pictures the distribution is taken.
_SAMPLE = 1_024


class ClassFeatures:
    """A supply of picture features followed by synthetic pairs of a classifier's classes.

    The feature of a synthetic pair is drawn from the normal distribution with the mean and covariance of the
    pictures' features, and moved, by the shortest Mahalanobis distance, until the head prefers the class by
    some nats. Its caption is the class's text. It has the layer that the head reads only, with the same
    feature at all locations.

    Args:
        pictures: The supply of picture features, which give mean and covariance; its pairs come first.
        layer: The layer whose mean over locations the head reads.
        weight: The head's weight, (C, D).
        bias: The head's bias, (C,), or None.
        texts: One text per class.
        count: The number of synthetic pairs.
        seed: The seed of the classes, of the nats and of the features.

    Raises:
        ValueError: If the supply does not give the layer, it has another width than the head, or there is not
            one text per class.

    Example:
        >>> supply = ClassFeatures(pictures, "layer4", head.weight, head.bias, names,
        ...                        count=2000)  # doctest: +SKIP
        >>> len(supply) - len(pictures)  # doctest: +SKIP
        2000
    """

    def __init__(
        self,
        pictures: Supply,
        layer: str,
        weight: Float[Tensor, "C D"],
        bias: Float[Tensor, "C"] | None,
        texts: Sequence[str],
        *,
        count: int,
        seed: int = 0,
    ) -> None:
        _check(pictures.widths, layer, weight, texts)
        self.pictures, self.layer, self.texts = pictures, layer, tuple(texts)
        self.count, self.seed = count, seed
        self.weight = weight.detach().float().cpu()
        self.bias = torch.zeros(len(weight)) if bias is None else bias.detach().float().cpu()
        means = pooled_sample(pictures, _SAMPLE)[layer].float()
        self.mean = means.mean(dim=0)
        self.root = (means - self.mean) / (len(means) - 1) ** 0.5  # covariance = root' root

    @property
    def identity(self) -> dict[str, str]:
        """The digests of everything that the pairs depend on, for `torchnle.training.identity`."""
        weights = digest([self.weight.numpy().tobytes(), self.bias.numpy().tobytes(), repr(self.texts)])
        return {
            **supply_identity(self.pictures),
            "classes": f"{weights} {self.layer} {self.count} {self.seed}",
        }

    def __len__(self) -> int:
        return len(self.pictures) + self.count

    @property
    def location_counts(self) -> Mapping[str, int]:
        """The number of locations of each layer."""
        return self.pictures.location_counts

    @property
    def widths(self) -> Mapping[str, int]:
        """The number of channels of each layer."""
        return self.pictures.widths

    def batches(self, numbers: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """Yield the batches of these numbers, in order."""
        wanted, read = tee(numbers)
        count = len(self.pictures)
        pictures = self.pictures.batches([number % count for number in chosen] for chosen in read)
        for chosen, batch in zip(wanted, pictures, strict=True):
            rows = [row for row, number in enumerate(chosen) if number >= count]
            yield self._with_classes(batch, list(chosen), rows) if rows else batch

    def _with_classes(self, batch: Batch, numbers: list[int], rows: list[int]) -> Batch:
        """A batch of pictures, some of which give way to class pairs."""
        classes, features = self._draw([numbers[row] - len(self.pictures) for row in rows])
        maps = batch.tokens[self.layer].clone()
        maps[rows] = features[:, None].to(maps)
        captions = list(batch.captions)
        for row, chosen in zip(rows, classes.tolist(), strict=True):
            captions[row] = (self.texts[chosen],)
        present = torch.ones(len(numbers), dtype=torch.bool, device=maps.device)
        present[rows] = False
        return replace(
            batch,
            tokens={**batch.tokens, self.layer: maps},
            captions=captions,
            items=numbers,
            known={layer: present for layer in batch.tokens if layer != self.layer},
        )

    def _draw(self, numbers: Sequence[int]) -> tuple[Int[Tensor, "R"], Float[Tensor, "R D"]]:
        """The classes of pairs, and their features."""
        sources = [generator("class", self.seed, number) for number in numbers]
        classes = torch.cat([torch.randint(len(self.texts), (1,), generator=source) for source in sources])
        ahead = _MOST_AHEAD * torch.cat([torch.rand(1, generator=source) for source in sources])
        normal = torch.stack([torch.randn(len(self.root), generator=source) for source in sources])
        return classes, self._moved(self.mean + normal @ self.root, classes, ahead)

    def _moved(
        self, features: Float[Tensor, "R D"], classes: Int[Tensor, "R"], ahead: Float[Tensor, "R"]
    ) -> Float[Tensor, "R D"]:
        """Features moved past one rival after the other, until each class leads all by so many nats.

        Each step goes to where the strongest rival's boundary lies nearest, as the covariance C measures
        distance: along C (w - w_rival), which always gains on it (Kaczmarz's projections).
        """
        for _ in range(_MOST_STEPS):
            answers = features @ self.weight.T + self.bias
            mine = answers.gather(1, classes[:, None])[:, 0]
            best, rivals = answers.scatter(1, classes[:, None], -torch.inf).max(dim=1)
            short = (ahead - (mine - best)).clamp(min=0)
            if not (short > _CLOSE).any():
                break
            between = (self.weight[classes] - self.weight[rivals]) @ self.root.T
            features = features + (short / between.square().sum(dim=1))[:, None] * (between @ self.root)
        return features


def _check(widths: Mapping[str, int], layer: str, weight: Tensor, texts: Sequence[str]) -> None:
    if layer not in widths:
        raise ValueError(
            f"the head reads '{layer}', which is not among the layers that are trained ({list(widths)}). "
            "Add it to [vision] layers, or leave [classes] out."
        )
    if (len(texts), widths[layer]) != tuple(weight.shape):
        raise ValueError(
            f"a head of {tuple(weight.shape)} does not fit {len(texts)} texts and the width "
            f"{widths[layer]} of '{layer}'; pass one text a class."
        )
