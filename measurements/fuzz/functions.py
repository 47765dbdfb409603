"""Public functions other than maps: words, concepts, sentences, audits, new classes, files, saving."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from measurements.fuzz.outcome import Outcome, WrongError, finite, judge, same
from measurements.fuzz.world import (
    NAMES,
    PHRASES,
    LetterEncoder,
    classifier,
    model,
    options,
    pictures,
    with_files,
)
from measurements.reading.tiny_models import build
from torchnle import LanguageAttribution
from torchnle.attr.audits import audit, repair
from torchnle.attr.dataset import describe_dataset
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.run import dissect
from torchnle.methods.zero_shot.bottleneck import concept_bottleneck
from torchnle.methods.zero_shot.new_classes import extend_classifier
from torchnle.methods.zero_shot.sentences.beams import Search

_NO_COUNT: list[Any] = ["2", 2.5, float("nan"), True, 0, -3, [1], {}, b"2", object()]
_NO_INPUTS: list[Any] = [None, 3, "a.jpg", (), {}, torch.zeros(0, 3, 16, 16), torch.zeros(1, 2, 16, 16)]
_NO_INPUTS += [torch.full((1, 3, 16, 16), float("nan")), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)]
_NO_NAMES: list[Any] = [None, 3, "cat", [], [""], ["a", 3], {"a": "b"}, b"cat", ["cat"] * 3, ["cat", "dog"]]
_NO_LIST: list[Any] = [3, "", {}, b"a", 1.5, torch.zeros(1), True]


def words(draw: random.Random) -> Outcome:
    """Dominant words: those of one image alone; of none, negative or odd counts an error."""
    x = pictures(draw, draw.randint(1, 3))
    given: dict[str, Any] = {"inputs": x, "where": draw.choice([None, "all", (1, 2)])}
    bad = {"inputs": _NO_INPUTS, "n": _NO_COUNT, "seed": ["1", 1.5, -1, None], "top_p": [0, 2, "1", True]}
    bad |= {"where": ["some", (9, 9), {1}], "temperature": [0, -1, "1"], "replacement": [1, None]}

    def run(options: dict[str, Any]) -> bool:
        table: Any = classifier().words(**options)
        alone: Any = classifier().words(x[:1], where=options["where"])
        return same(finite(table.frequencies)[: len(alone)], alone.frequencies)

    return _case(draw, "words", given, bad, run)


def concepts(draw: random.Random) -> Outcome:
    """Concepts of predictions: those of one image alone."""
    x = pictures(draw, draw.randint(1, 3))
    target = draw.choice([None, 1, "mug", "cliff"])
    given: dict[str, Any] = {"inputs": x, "bank": draw.sample(PHRASES, draw.randint(1, 6)), "target": target}
    given |= {"where": draw.choice([None, (0, 3), None]), "count": draw.randint(1, 8)}
    bad = {"inputs": _NO_INPUTS[1:], "bank": [3, [], [""], [3], {"a": 3}], "count": _NO_COUNT}
    bad |= {"target": ["lion", 9, -9, 1.5, [0] * 9], "where": ["some", (9, 9)], "rather_than": ["lion", 9]}

    def run(options: dict[str, Any]) -> bool:
        found = classifier().concepts(**options)
        (alone,) = classifier().concepts(**{**options, "inputs": x[:1]})
        return str(found[0]) == str(alone) or _wrong("other concepts alone")

    return _case(draw, "concepts", given, bad, run)


_WORDS = (
    "a the red wet old small cat dog tree boat wheel leaf stone water sky grass door hat fur beak with on"
)
_WORDS += " in under and white black green big bird fish house road car cup rock sand fern cliff mug ice"


@cache
def _writer() -> LanguageModel:
    words = ["<unk>", "<s>", "</s>", *_WORDS.split()]
    listed = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    listed.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=listed, bos_token="<s>", eos_token="</s>")
    return LanguageModel(build("gpt2"), tokenizer, reference="gpt2")


def warm() -> None:
    """Load what the first case would load, before anything is timed."""
    classifier().words(pictures(random.Random(0), 1))
    search = Search(beams=1, proposals=8, encoded=2, most_words=2, least_words=1)
    classifier().explain(pictures(random.Random(0), 1), language_model=_writer(), search=search)


def explain(draw: random.Random) -> Outcome:
    """Sentences on predictions: finite scores, the class that the model predicts."""
    x = pictures(draw, 1)
    search = Search(beams=1, proposals=8, encoded=2, most_words=2, least_words=1)
    given: dict[str, Any] = {"inputs": x, "language_model": _writer(), "search": search}
    given["target"] = draw.choice([None, 0, "fern"])
    bad = {"inputs": _NO_INPUTS, "target": ["lion", 9, 1.5], "unwanted": ["w3", 3, {"a": 1}]}
    bad |= {"rather_than": ["lion", 77], "truth": ["lion", 77]}

    def run(options: dict[str, Any]) -> bool:
        (found,) = classifier().explain(**options)
        predicted = int(_logits(x)[0].argmax()) if options["target"] is None else None
        if predicted is not None and NAMES[predicted] not in str(found):
            raise WrongError(f"{NAMES[predicted]} is predicted: {found}")
        return True

    return _case(draw, "explain", given, bad, run)


def audits(draw: random.Random) -> Outcome:
    """An audit of batches is that of all images; a repair gives finite logits and leaves the model alone."""
    count = draw.choice([30, 60, 90])
    x = pictures(draw, count)
    y = torch.arange(count) % len(NAMES)
    cut = draw.randint(1, count - 1)
    given: dict[str, Any] = {"batches": [(x[:cut], y[:cut]), (x[cut:], y[cut:])], "class_names": NAMES}
    bad = {"batches": [[], 3, None, [(x, y + 50)], [(x, y[:3])], [x], [(x, None)]], "class_names": _NO_NAMES}
    bad |= {"n": _NO_COUNT[:6], "contexts": ["a lake", [""], [3]]}

    def run(options: dict[str, Any]) -> bool:
        found = audit(classifier(), **options)
        whole = audit(classifier(), [(x, y)], NAMES)
        made = _repaired(options["batches"], found)
        if made is not None:
            with torch.no_grad():
                finite(made.eval()(x))
        return str(found) == str(whole) or _wrong("another audit of the same images in one batch")

    return _case(draw, "audit", given, bad, run)


def _repaired(batches: Any, found: Any) -> Any:
    """Repair; None where torchnle says that a group has too few images for it."""
    try:
        return repair(model(), batches, found)
    except ValueError as error:
        if "The penalty is chosen in" in str(error):
            return None
        raise


def new_classes(draw: random.Random) -> Outcome:
    """A classifier with more classes: the old logits stay."""
    fresh = draw.sample(["a hen", "moss", "an old tram", "ice", "a kite"], draw.randint(1, 4))
    given: dict[str, Any] = {"model": model(), "names": fresh, "class_names": NAMES, **options()}
    bad: dict[str, list[Any]] = {"names": ["hen", [], [""], ["cat"], ["a", "a"], [3], 3, None]}
    bad |= {"class_names": [v for v in _NO_NAMES if v is not None], "prompts": ["{}", [], ["a"], [3]]}
    bad |= {"example": ["a", (1,), torch.zeros(0, 3, 16, 16)], "model": [3, len, None]}
    x = pictures(draw, 2)

    def run(options: dict[str, Any]) -> bool:
        found = finite(extend_classifier(**options)(x).detach())
        return same(found[:, : len(NAMES)], _logits(x)) and found.shape[1] == len(NAMES) + len(fresh)

    return _case(draw, "extend_classifier", given, bad, run)


def bottleneck(draw: random.Random) -> Outcome:
    """A classifier as a sum over concepts: the parts add up to the logits."""
    given: dict[str, Any] = {"model": model(), "concepts": draw.sample(PHRASES, draw.randint(2, 9))}
    given |= {"class_names": NAMES, **options()}
    bad: dict[str, list[Any]] = {"concepts": [3, [], [""], [3]], "model": [3, len, None]}
    bad |= {"class_names": [v for v in _NO_NAMES if v is not None], "example": ["a", [1]]}
    x = pictures(draw, 2)

    def run(options: dict[str, Any]) -> bool:
        found = concept_bottleneck(**options)
        logits = finite(found(x).detach())
        less = found.without(found.concepts[0])(x).detach()
        part = found.contributions(x, 1).detach()[:, 0]
        return same(logits[:, 1] - less[:, 1], part, tolerance=1e-3 * max(1.0, float(logits.abs().max())))

    return _case(draw, "concept_bottleneck", given, bad, run)


def units(draw: random.Random) -> Outcome:
    """Labels of units: those of one unit labelled alone."""
    images = [_picture(draw) for _ in range(draw.randint(4, 8))]
    prepare: Callable[[Any], Tensor] = with_files().preprocess  # type: ignore[assignment]
    given: dict[str, Any] = {"model": model(), "layer": "1", "probing_set": images, "transform": prepare}
    given |= {"translator": classifier().translator, "probing": ProbeSettings(k=2, batch_size=4)}
    bad = {"probing_set": [[], 3, "nowhere", None], "only": [[99], [-99], ["1"]], "layer": ["none", 3]}

    def run(options: dict[str, Any]) -> bool:
        found = dissect(**options)
        (alone,) = dissect(**{**options, "only": [2]})
        return alone == found[2] or _wrong("another label of a unit alone")

    return _case(draw, "dissect", given, bad, run)


def _picture(draw: random.Random) -> Image.Image:
    return Image.frombytes("RGB", (SIZE_OF_FILES, SIZE_OF_FILES), draw.randbytes(3 * SIZE_OF_FILES**2))


SIZE_OF_FILES = 20


def folder(draw: random.Random) -> Outcome:
    """Files in order, one line each: whole ones as `describe` says them, damaged ones with their error."""
    kinds = [draw.choice(["whole", "whole", "cut", "text", "missing"]) for _ in range(draw.randint(1, 6))]
    made = [_picture(draw) for _ in kinds]
    size, cut = draw.randint(1, 4), draw.randrange(1 << 20)
    given: dict[str, Any] = {"batch_size": size, "where": draw.choice([None, "all"])}
    bad = {"batch_size": _NO_COUNT, "files": [3, "a.png", None, {}], "workers": ["1", -1, 1.5, True]}
    bad |= {"where": [(1, 1), "some", 3], "journal": [3, "", ["a"]]}

    def run(options: dict[str, Any]) -> bool:
        with tempfile.TemporaryDirectory() as root:
            files = [_laid(Path(root, f"{i}.png"), kind, made[i]) for i, kind in enumerate(kinds)]
            journal = Path(root, "lines.jsonl")
            options = {"files": files, "journal": journal, **options}
            lines = list(describe_dataset(with_files(), **options))
            raw = journal.read_bytes()
            journal.write_bytes(raw[: cut % (len(raw) + 1)])  # as a kill leaves it
            again = list(describe_dataset(with_files(), **options))
            wanted = [
                with_files().describe(str(file))[0].text if kind == "whole" else None
                for file, kind in zip(files, kinds, strict=True)
            ]
        if again != lines or journal_differs(raw, lines):
            raise WrongError("other lines after a cut")
        return [line.get("text") for line in lines] == wanted or _wrong(f"{lines} for {wanted}")

    return _case(draw, "describe_dataset", given, bad, run)


def journal_differs(raw: bytes, lines: list[dict[str, Any]]) -> bool:
    """Return whether a journal holds another number of lines than were given."""
    return raw.count(b"\n") != len(lines) + 1


def _laid(file: Path, kind: str, picture: Image.Image) -> Path:
    if kind != "missing":
        picture.save(file)
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:40])
    elif kind == "text":
        file.write_text("no picture")
    return file


def saving(draw: random.Random) -> Outcome:
    """Saved and loaded, an attribution gives the same answers."""
    x, texts = pictures(draw, 2), draw.sample(PHRASES, 2)
    given: dict[str, Any] = {"dtype": draw.choice([None, torch.float32, None])}
    bad = {"dtype": ["float32", torch.int8, 3], "folder": [3, "", ["a"]]}

    def run(options: dict[str, Any]) -> bool:
        with tempfile.TemporaryDirectory() as root:
            path = options.pop("folder", Path(root, "saved"))
            fresh = classifier()
            fresh.save_pretrained(path, **options)
            again = _loaded(Path(path))
        return same(again.saliency(x, texts), fresh.saliency(x, texts))

    return _case(draw, "saving", given, bad, run)


def _loaded(path: Path) -> LanguageAttribution:
    """Load, with the encoder of letters in place of one that a reference finds."""
    with patch.object(TextEncoder, "from_pretrained", lambda *_, **__: LetterEncoder()):
        return LanguageAttribution.from_pretrained(model(), str(path), example=options()["example"])


def adapting(draw: random.Random) -> Outcome:
    """Statistics of batches are those of all images at once."""
    x = pictures(draw, draw.randint(3, 8))
    cut = draw.randint(1, len(x) - 1)
    given: dict[str, Any] = {"images": [x[:cut], x[cut:]]}
    bad = {"images": [[], 3, None, x[:1], [x[:1]], ["a"], x.new_zeros(4, 3, 16, 16), x * float("nan")]}

    def run(given: dict[str, Any]) -> bool:
        first, second = (
            LanguageAttribution.from_classifier(model(), NAMES, vocabulary=(), **options()) for _ in range(2)
        )
        maps = first.adapt(given["images"]).saliency(x[:1], ["fur"])
        return same(maps, second.adapt(x).saliency(x[:1], ["fur"]))

    return _case(draw, "adapt", given, bad, run)


def attaching(draw: random.Random) -> Outcome:
    """Class names in any form give one map."""
    forms: list[Any] = [list(NAMES), NAMES, dict(enumerate(NAMES)), {n: i for i, n in enumerate(NAMES)}]
    forms += [{str(i): n for i, n in enumerate(NAMES)}, iter(NAMES)]
    given: dict[str, Any] = {"class_names": draw.choice(forms)}
    bad: dict[str, list[Any]] = {"class_names": [n for n in _NO_NAMES if n is not None]}
    bad |= {"layers": ["none", 3, []], "example": ["a", (1,), [1]], "lens": ["x", None], "vocabulary": [3]}
    x = pictures(draw, 1)

    def run(changes: dict[str, Any]) -> bool:
        given = {"model": model(), "vocabulary": (), **options(), **changes}
        found = LanguageAttribution.from_classifier(**given)
        return same(finite(found.saliency(x, ["fur"])), classifier().saliency(x, ["fur"]))

    return _case(draw, "from_classifier", given, bad, run)


def captioned(draw: random.Random) -> Outcome:
    """A map of captions: batches give what all at once give."""
    x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(draw.randrange(1 << 30)))
    captions = [f"{draw.choice(['a red', 'a wet', 'the'])} {draw.choice(['cat', 'tree', 'boat'])}" for _ in x]
    given: dict[str, Any] = {"captions": [(x[:2], captions[:2]), (x[2:], captions[2:])]}
    bad = {
        "captions": [[], 3, None, [(x, captions[:3])], [x], [(x, [""] * 6)], [("a", "b")], [(x, captions, 3)]]
    }
    bad |= {"layers": ["none", 3, []]}

    def run(changes: dict[str, Any]) -> bool:
        shared = {"encoder": options()["encoder"], "vocabulary": ()}
        given = {"model": model(), "layers": "1", **shared, **changes}
        found = LanguageAttribution.from_captions(**given)
        whole = LanguageAttribution.from_captions(model(), "1", [(x, captions)], **shared)
        return same(finite(found.saliency(x[:1], ["fur"])), whole.saliency(x[:1], ["fur"]))

    return _case(draw, "from_captions", given, bad, run)


def _logits(x: Tensor) -> Tensor:
    network = model()
    try:
        with torch.no_grad():
            return network.eval()(x)  # type: ignore[no-any-return]
    finally:
        network.train()


def _wrong(why: str) -> bool:
    raise WrongError(why)


def _case(
    draw: random.Random,
    family: str,
    given: dict[str, Any],
    bad: dict[str, list[Any]],
    run: Callable[[dict[str, Any]], bool],
) -> Outcome:
    """One call, valid or with one bad argument; the model must be as it was."""
    kind, case = "valid", family
    if draw.random() < 0.5:
        name = draw.choice(sorted(bad))
        value = draw.choice(bad[name])
        given, kind, case = {**given, name: value}, "bad", f"{family}({name}={_shown(value)})"

    def watched() -> bool:
        state = {name: value.clone() for name, value in model().state_dict().items()}
        try:
            return run(given)
        finally:
            same_state = all(torch.equal(value, state[n]) for n, value in model().state_dict().items())
            if not same_state or not all(part.training for part in model().modules()):
                raise WrongError("the model was changed")

    return judge(family, kind, case, watched)


def _shown(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:60]
