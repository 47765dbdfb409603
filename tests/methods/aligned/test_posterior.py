import pytest
import torch
import torch.nn.functional as F
from letter_encoder import LetterEncoder
from map_world import CLASSES, PHRASES, WIDTH, captioned, drawn, fitted, head, prototypes

from torchnle.methods.aligned.probability.calibration import (
    calibrate_by_captions,
    calibrate_by_head,
    choose_offset,
    marks,
)
from torchnle.methods.aligned.probability.candidates import Candidates
from torchnle.methods.aligned.probability.posterior import posterior

WORDS = (*PHRASES, "a boat", "a fern", "zebra")
ROWS = drawn(6, WIDTH, seed=2) * 3


def among(found, words=WORDS, classes=CLASSES, *, level=True):
    return Candidates(
        found.directions(LetterEncoder().encode(words)),
        torch.tensor([words.index(name) for name in classes], dtype=torch.long),
        fitted=torch.tensor([word != "zebra" for word in words]) if level else None,
    )


def slow(found, row, words=WORDS, classes=CLASSES):
    """The definition, a phrase at a time, in float64."""
    white = found.whiten(row[None])[0].double()
    logits = []
    for word in words:
        direction = found.directions(LetterEncoder().encode([word]))[0].double()
        cosine = white @ direction / white.norm()
        logits.append(found.temperature * (cosine - (0 if word == "zebra" else found.offset)))
    for null in found.nulls:
        other = found.whiten(null[None])[0].double()
        logits.append(found.temperature * (white @ other) / white.norm() / other.norm())
    shares = torch.stack(logits).softmax(dim=0)
    none = shares[len(words) :].sum()
    phrases = (1 - found.head_share) * shares[: len(words)]
    by_class = (row @ head().weight.T + head().bias).softmax(dim=0)
    for name, share in zip(classes, by_class, strict=True):
        phrases[words.index(name)] += found.head_share * share * (1 - none)
    return phrases, none


@pytest.mark.parametrize(("share", "offset"), [(0.0, 0.0), (0.5, 0.2), (1.0, 0.1)])
def test_is_the_definition(share, offset):
    found = fitted()
    found.head_share.fill_(share)
    found.offset.fill_(offset)
    phrases, none = posterior(found, ROWS, among(found), local=False)
    for index, row in enumerate(ROWS):
        expected, expected_none = slow(found, row)
        torch.testing.assert_close(phrases[index].double(), expected.double(), atol=1e-5, rtol=1e-4)
        assert none[index].item() == pytest.approx(expected_none.item(), abs=1e-5)


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_adds_up_to_one_with_none(local, share):
    found = fitted()
    found.head_share.fill_(share)
    rows = torch.cat([ROWS, torch.zeros(1, WIDTH), found.center[None], 1e6 * ROWS[:1]])
    phrases, none = posterior(found, rows, among(found), local=local)
    torch.testing.assert_close(phrases.sum(dim=1) + none, torch.ones(len(rows)))
    assert (phrases >= 0).all()
    assert (none >= 0).all()


def test_features_of_nothing_are_none_of_the_phrases():
    found = fitted()
    found.temperature.fill_(60.0)
    found.head_share.fill_(0.5)
    _, none = posterior(found, found.nulls, among(found), local=False)
    assert (none > 0.95).all()
    directions = among(found).directions @ torch.linalg.inv(found.matrix) + found.center
    _, none = posterior(found, directions, among(found), local=False)
    assert (none < 0.5).all()


def test_without_pictures_of_nothing_none_is_zero():
    found = fitted()
    found.nulls = torch.zeros(0, WIDTH)
    phrases, none = posterior(found, ROWS, among(found), local=False)
    assert (none == 0).all()
    torch.testing.assert_close(phrases.sum(dim=1), torch.ones(len(ROWS)))


def test_a_location_is_brought_to_the_pooled_norm_first():
    found = fitted()
    found.head_share.fill_(0.5)
    local, _ = posterior(found, ROWS, among(found), local=True)
    scaled, _ = posterior(found, F.normalize(ROWS, dim=1) * found.pooled_norm, among(found), local=False)
    torch.testing.assert_close(local, scaled)
    torch.testing.assert_close(local, posterior(found, 5 * ROWS, among(found), local=True)[0])
    assert not torch.allclose(local, posterior(found, ROWS, among(found), local=False)[0], atol=1e-2)


def test_two_classes_of_one_name_share_a_column():
    found = fitted()
    found.head_share.fill_(1.0)
    classes = ("a boat", "a fern", "a boat")
    phrases, none = posterior(found, ROWS, among(found, classes=classes), local=False)
    by_class = (ROWS @ head().weight.T + head().bias).softmax(dim=1) * (1 - none)[:, None]
    torch.testing.assert_close(phrases[:, WORDS.index("a boat")], by_class[:, 0] + by_class[:, 2])


def test_the_offset_moves_probability_to_what_was_not_fitted():
    found, shares, plain = fitted(), [], []
    for offset in (0.0, 0.1, 0.3):
        found.offset.fill_(offset)
        level = posterior(found, ROWS, among(found), local=False)[0]
        shares.append(level[:, WORDS.index("zebra")])
        plain.append(posterior(found, ROWS, among(found, level=False), local=False)[0])
    assert (shares[0] < shares[1]).all()
    assert (shares[1] < shares[2]).all()
    assert torch.equal(plain[0], plain[2])  # a description has none: fitted phrases are what is likely


class TestCalibration:
    def setup_method(self):
        self.rows, listed = captioned(80, seed=0)
        self.named = marks(listed, prototypes().phrases)
        self.map = fitted(classes=False)
        self.map.center.copy_(self.rows.mean(dim=0))

    def test_marks(self):
        phrases = prototypes().phrases
        found = marks([["a cat", "unheard"], [], list(phrases)], phrases)
        assert found.tolist() == [[p == "a cat" for p in phrases], [False] * 4, [True] * 4]

    def test_the_temperature_is_the_likeliest_by_brute_force(self):
        known = self.map.directions(self.map.texts).double()
        nearest = (self.map.whiten(self.rows).double() @ known.T).argmax(dim=1)
        wrong = torch.arange(len(nearest)) % 6 == 0  # as where captions leave out what is seen
        labels = F.one_hot((nearest + wrong) % len(PHRASES), len(PHRASES)).bool()
        calibrate_by_captions(self.map, self.rows, labels)

        def likelihood(temperature):
            total = 0.0
            for row, named in zip(self.rows, labels, strict=True):
                white = F.normalize(self.map.whiten(row[None])[0].double(), dim=0)
                shares = (temperature * known @ white).softmax(dim=0)[: len(PHRASES)]
                total += shares[named].sum().clamp(min=1e-12).log().item()
            return total

        tried = {2 ** (step / 4): likelihood(2 ** (step / 4)) for step in range(8, 33)}
        best = max(tried, key=tried.__getitem__)
        assert best not in (min(tried), max(tried))
        assert self.map.temperature.item() == pytest.approx(best)
        assert self.map.head_share == 0

    @pytest.mark.parametrize("folds", [2, 4])
    def test_the_offset_is_the_best_harmonic_mean_by_brute_force(self, folds):
        chosen = choose_offset(self.map, self.rows, self.named, folds)
        own = self.map.directions(self.map.texts[: len(PHRASES)])
        folded = self.map.regression.left_out(torch.arange(len(PHRASES)) % folds)
        white = F.normalize(self.map.whiten(self.rows), dim=1)
        as_fitted, as_new = (white @ own.T).tolist(), (white @ F.normalize(folded, dim=1).T).tolist()

        def rates(offset):
            """Of fitted and of unseen phrases, over folds, pictures, and the phrases that are on them."""
            right = {True: [], False: []}
            for fold in range(folds):
                unseen = [index % folds == fold for index in range(len(PHRASES))]
                for row, named in enumerate(self.named.tolist()):
                    old, new = as_fitted[row], as_new[row]
                    scores = [new[i] if out else old[i] - offset for i, out in enumerate(unseen)]
                    rivals = max((s for s, on in zip(scores, named, strict=True) if not on), default=-9)
                    for phrase in (i for i, on in enumerate(named) if on):
                        right[unseen[phrase]].append(scores[phrase] > rivals)
            return [sum(found) / len(found) for found in right.values()]

        means = [2 * a * b / max(a + b, 1e-9) for a, b in (rates(step / 100) for step in range(61))]
        assert means[round(100 * chosen)] == pytest.approx(max(means), abs=1e-6)
        assert max(means) > min(means)

    def test_without_phrases_on_pictures_or_with_one_phrase_there_is_no_offset(self):
        assert choose_offset(self.map, self.rows, torch.zeros_like(self.named)) == 0
        assert choose_offset(self.map, self.rows, self.named[:, :1]) == 0

    def test_cosines_become_as_sharp_as_a_head_of_equal_norms(self):
        found = fitted(captions=False)
        found.class_norms.fill_(2.0)
        found.class_bias.zero_()
        found.center.zero_()
        rows = F.normalize(ROWS, dim=1) * 4.0
        calibrate_by_head(found, 4.0)
        cosines = F.normalize(rows, dim=1) @ found.targets.T
        torch.testing.assert_close(found.temperature * cosines, found.head_logits(rows))
        assert found.head_share == 0.5
