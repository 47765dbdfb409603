import pytest
import torch
import torch.nn.functional as F
from letter_encoder import LetterEncoder
from map_world import CLASSES, PHRASES, WIDTH, drawn, fitted, head, prototypes

from torchnle.methods.aligned.text_features import text_map
from torchnle.methods.aligned.text_features.phrase_sums import PhraseSums
from torchnle.methods.aligned.text_features.text_map import Classes, TextMap
from torchnle.methods.aligned.text_features.whitening import whitening

ROWS = drawn(9, WIDTH, seed=2) * 3
KINDS = pytest.mark.parametrize("captions", [True, False])


class TestWhitening:
    @pytest.mark.parametrize("shrinkage", [0.1, 3.0])
    def test_its_square_inverts_the_shrunk_covariance(self, shrinkage):
        rows = drawn(200, 5, seed=3) @ drawn(5, 5, seed=4)
        covariance = rows.T @ rows / len(rows)
        matrix, inverse = whitening(covariance, shrinkage)
        shrunk = covariance / covariance.diagonal().mean() + shrinkage * torch.eye(5)
        torch.testing.assert_close(matrix @ shrunk @ matrix, torch.eye(5), atol=1e-4, rtol=0)
        torch.testing.assert_close(matrix @ inverse, torch.eye(5), atol=1e-5, rtol=0)
        torch.testing.assert_close(matrix, matrix.T)

    def test_the_scale_of_features_does_not_matter(self):
        rows = drawn(50, 5, seed=3)
        covariance = rows.T @ rows
        torch.testing.assert_close(whitening(covariance)[0], whitening(1e4 * covariance)[0])

    def test_fewer_images_than_channels(self):
        rows = drawn(2, 40)
        matrix, inverse = whitening(rows.T @ rows)
        assert matrix.isfinite().all()
        torch.testing.assert_close(matrix @ inverse, torch.eye(40), atol=1e-4, rtol=0)

    def test_no_variance_is_left_as_it_is(self):
        assert all(torch.equal(each, torch.eye(3)) for each in whitening(torch.zeros(3, 3)))


class TestWhitenFor:
    def adapted(self, likeliest, monkeypatch, **options):
        found = fitted(shrinkage=0.5, **options)
        found.own_shrinkage = 0.1
        monkeypatch.setattr(text_map, "likeliest_shrinkage", lambda *_: likeliest)
        found.whiten_for(ROWS)
        return found

    def test_is_the_fit_with_that_shrinkage(self, monkeypatch):
        found, anew = self.adapted(0.8, monkeypatch), fitted(shrinkage=4.0)
        assert found.config == anew.config | {"fitted_shrinkage": 0.5, "own_shrinkage": 0.1}
        for name, tensor in anew.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], tensor, atol=1e-5, rtol=1e-4, msg=name)
        found.whiten_for(ROWS)
        torch.testing.assert_close(found.targets, anew.targets, atol=1e-5, rtol=1e-4)

    def test_pictures_like_those_of_the_fit_change_nothing(self, monkeypatch):
        found = self.adapted(0.05, monkeypatch)
        torch.testing.assert_close(found.targets, fitted(shrinkage=0.5).targets, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("options", [{"captions": False}, {"regression": "mlp"}])
    def test_without_a_whitening_or_in_a_network_nothing_changes(self, monkeypatch, options):
        found = self.adapted(100.0, monkeypatch, **options)
        assert torch.equal(
            found.directions(found.texts), fitted(shrinkage=0.5, **options).directions(found.texts)
        )

    def test_the_head_stays_the_models(self, monkeypatch):
        found, classes = self.adapted(100.0, monkeypatch), head()
        difference = found.head_logits(found.whiten(ROWS)) - (ROWS @ classes.weight.T + classes.bias)
        torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), atol=1e-4, rtol=0)


@KINDS
def test_head_logits_are_the_heads_but_for_a_constant_a_row(captions):
    found, classes = fitted(captions=captions), head()
    logits = found.head_logits(found.whiten(ROWS))
    difference = logits - (ROWS @ classes.weight.T + classes.bias)
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), atol=1e-4, rtol=0)


def test_a_head_without_biases():
    weight = drawn(3, WIDTH, seed=5)
    found = TextMap.fit(LetterEncoder().encode, classes=Classes(weight, None, CLASSES))
    shares = found.head_logits(found.whiten(ROWS)).softmax(dim=1)
    torch.testing.assert_close(shares, (ROWS @ weight.T).softmax(dim=1), atol=1e-5, rtol=1e-4)


@KINDS
@pytest.mark.parametrize("regression", ["ridge", "mlp"])
def test_directions_are_unit_and_one_by_one_the_same(captions, regression):
    found = fitted(captions=captions, regression=regression)
    vectors = LetterEncoder().encode(["a cat", "zebra", "a dog", "the sky over a field"])
    together = found.directions(vectors)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    apart = torch.cat([found.directions(each[None]) for each in vectors])
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=1e-5)


def test_blocks_of_texts_make_the_whole(monkeypatch):
    found = fitted()
    vectors = LetterEncoder().encode([*PHRASES, *CLASSES, "zebra"])
    whole = found.directions(vectors)
    monkeypatch.setattr(text_map, "_BLOCK", 3)
    torch.testing.assert_close(found.directions(vectors), whole, atol=1e-6, rtol=1e-5)


def test_a_fitted_phrase_keeps_half_of_its_own_prototype():
    found, given = fitted(classes=False), prototypes()
    matrix = whitening(given.within)[0].double()
    moved = given.vectors.double() @ matrix
    own = F.normalize(moved - moved.mean(dim=0), dim=1)
    vectors = LetterEncoder().encode(given.phrases)
    predicted = F.normalize(found.regression(vectors).double(), dim=1)
    expected = F.normalize(own + predicted, dim=1).float()
    torch.testing.assert_close(found.directions(vectors), expected, atol=1e-5, rtol=1e-4)


def test_a_text_that_was_not_fitted_is_the_regressions():
    found = fitted()
    vectors = LetterEncoder().encode(["zebra", "wombat"])
    expected = F.normalize(found.regression(vectors), dim=1)
    torch.testing.assert_close(found.directions(vectors), expected)


def test_a_text_fitted_twice_keeps_the_mean_of_its_prototypes():
    """'a dog' is a phrase of captions and the name of a class, whatever rounding says of which is nearer."""
    found = fitted()
    which = [list(prototypes().phrases).index("a dog"), len(PHRASES) + CLASSES.index("a dog")]
    own = F.normalize(found.targets[which].sum(dim=0), dim=0)
    vector = LetterEncoder().encode(["a dog"])
    expected = F.normalize(own + F.normalize(found.regression(vector)[0], dim=0), dim=0)
    torch.testing.assert_close(found.directions(vector)[0], expected)


def test_one_phrase_alone_has_a_direction():
    sums = PhraseSums(WIDTH)
    rows = drawn(20, WIDTH)
    rows[:10] += 3 * torch.eye(WIDTH)[2]
    sums.add(rows, [["a cat"]] * 10 + [[]] * 10)
    found = TextMap.fit(LetterEncoder().encode, prototypes=sums.solve())
    found.center.copy_(rows.mean(dim=0))
    scores = found.score(rows, found.directions(LetterEncoder().encode(["a cat"])))[:, 0]
    assert scores[:10].min() > scores[10:].max()


@KINDS
def test_the_score_is_linear_in_the_features(captions):
    found = fitted(captions=captions)
    directions = found.directions(LetterEncoder().encode(["a cat", "zebra"]))
    first, second = ROWS[:4], ROWS[4:8]
    mixed = found.score(0.3 * first + 0.7 * second, directions)
    apart = 0.3 * found.score(first, directions) + 0.7 * found.score(second, directions)
    torch.testing.assert_close(mixed, apart, atol=1e-5, rtol=1e-4)
    assert found.score(found.center[None], directions).abs().max() < 1e-5
    slow = [[float(found.whiten(row[None])[0] @ each) for each in directions] for row in ROWS]
    torch.testing.assert_close(found.score(ROWS, directions), torch.tensor(slow), atol=1e-5, rtol=1e-5)


def test_the_gradient_is_the_direction_through_the_whitening():
    found = fitted()
    directions = found.directions(LetterEncoder().encode(["a cat"]))
    rows = ROWS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(found.score(rows, directions).sum(), rows)
    torch.testing.assert_close(gradient, (found.matrix @ directions[0]).expand_as(rows), atol=1e-5, rtol=1e-4)
    few = ROWS[:2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda r: found.score(r, directions), few, eps=1e-2, atol=1e-2)


def test_a_vector_added_to_all_class_weights_changes_nothing():
    classes = head()
    moved = Classes(classes.weight + drawn(WIDTH, seed=9), classes.bias, classes.texts)
    first, second = (TextMap.fit(LetterEncoder().encode, classes=each) for each in (classes, moved))
    vectors = LetterEncoder().encode([*CLASSES, "zebra"])
    torch.testing.assert_close(first.directions(vectors), second.directions(vectors), atol=1e-5, rtol=1e-4)


def test_class_prototypes_score_as_the_head_does_through_the_whitening():
    """Among whitened features a class's prototype is its weight row through the inverse."""
    found, classes = fitted(), head()
    weight = classes.weight - classes.weight.mean(dim=0)
    targets = found.targets[len(PHRASES) :] * found.class_norms[:, None]
    torch.testing.assert_close(targets @ found.matrix, weight, atol=1e-4, rtol=1e-4)


def test_locations_are_brought_to_the_norm_of_pooled_features():
    found = fitted()
    torch.testing.assert_close(found.scaled(ROWS).norm(dim=1), torch.full((len(ROWS),), 3.0))
    torch.testing.assert_close(F.normalize(found.scaled(ROWS), dim=1), F.normalize(ROWS, dim=1))
    assert torch.equal(found.scaled(torch.zeros(1, WIDTH)), torch.zeros(1, WIDTH))


@KINDS
@pytest.mark.parametrize("regression", ["ridge", "mlp"])
def test_config_and_tensors_make_it_again(captions, regression):
    found = fitted(captions=captions, regression=regression)
    again = TextMap(**found.config)
    again.load_state_dict(found.state_dict())
    again.eval()
    vectors = LetterEncoder().encode(["a cat", "zebra"])
    assert torch.equal(again.directions(vectors), found.directions(vectors))
    assert torch.equal(again.whiten(ROWS), found.whiten(ROWS))
    assert torch.equal(again.nulls, found.nulls)


def test_an_unknown_regression_is_refused():
    with pytest.raises(ValueError, match=r"regression='tree'.*'mlp', 'ridge'"):
        TextMap(4, 3, regression="tree")
