import torch
from letter_encoder import LetterEncoder
from map_world import WIDTH, captioned

from torchnle.methods.aligned.captioned import CaptionedSums
from torchnle.methods.aligned.probability.calibration import calibrate_by_captions, choose_offset, marks
from torchnle.methods.aligned.reader import Reader
from torchnle.methods.aligned.text_features.phrase_sums import PhraseSums
from torchnle.methods.aligned.text_features.text_map import TextMap


class Rows(Reader):
    """Pictures whose pixels are their features."""

    def rows(self, images):
        pooled = images.flatten(1)
        return {"layer": (pooled, pooled)}


def read(count):
    rows, listed = captioned(count)
    sums = CaptionedSums()
    sums.add(Rows(lambda x: x, []), rows[:, :, None, None], [",".join(each) for each in listed], split)
    return rows, listed, sums


def split(caption):
    return caption.split(",") if caption else []


def fit(rows, listed):
    sums = PhraseSums(WIDTH)
    sums.add(rows, listed)
    found = sums.solve()
    return TextMap.fit(LetterEncoder().encode, prototypes=found), found.phrases


def test_fitted_to_all_and_calibrated_on_every_eighth_by_a_fit_to_the_others():
    rows, listed, sums = read(320)
    found, phrases = sums.fit("layer", LetterEncoder().encode, None, 1.0)
    expected, same = fit(rows, listed)
    assert phrases == same
    torch.testing.assert_close(found.targets, expected.targets, atol=1e-5, rtol=1e-4)
    apart = torch.arange(320) % 8 == 0
    others, known = fit(rows[~apart], [each for each, out in zip(listed, apart, strict=True) if not out])
    others.center.copy_(rows.mean(dim=0))
    marked = marks([each for each, out in zip(listed, apart, strict=True) if out], known)
    calibrate_by_captions(others, rows[apart], marked)
    assert found.temperature == others.temperature
    assert found.offset.item() == torch.tensor(choose_offset(others, rows[apart], marked))
    assert found.head_share == 0


def test_few_pictures_are_fitted_to_and_calibrated_on():
    rows, listed, sums = read(60)
    found, phrases = sums.fit("layer", LetterEncoder().encode, None, 1.0)
    expected, known = fit(rows, listed)
    expected.center.copy_(rows.mean(dim=0))
    calibrate_by_captions(expected, rows, marks(listed, known))
    assert (phrases, found.temperature) == (known, expected.temperature)
