"""An explorer of a tiny classifier: two layers of 8x8 and 4x4 locations, a toy encoder, a random decoder."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path

import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from PIL import Image
from tiny_translators import tiny_decoder

from torchnle import LanguageAttribution
from torchnle.backbones import Backbone, Preprocess
from torchnle.explorer.explorer import Explorer

NAMES = ["cat", "mug", "boat", "fern", "cliff"]
LAYERS = ["act", "norm"]
HOSTILE = '<img src=x onerror="document.title=1">.png'


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (24, 16)) -> Path:
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    Image.fromarray(pixels.byte().numpy()).resize((10 * size[0], 10 * size[1])).save(path)
    return path


def make(folder: Path, count: int = 2, *, decoder: bool = True) -> Explorer:
    torch.manual_seed(0)
    backbone = Backbone.of(conv_net(), Preprocess(8, 127.0, 128.0), NAMES, name="tiny")
    lang = LanguageAttribution.from_classifier(
        backbone.model, NAMES, LAYERS, example=torch.rand(2, 3, 8, 8), encoder=LetterEncoder()
    )
    lang.preprocess = backbone.preprocess
    names = [HOSTILE, *(f"photo {i}.png" for i in range(1, count))]
    files = [picture(folder / name.replace("/", ""), seed) for seed, name in enumerate(names[:count])]
    return Explorer(backbone, lang, files, decoder=tiny_decoder() if decoder else None)


@contextmanager
def served(explorer: Explorer, **options):
    """Serve in a thread; yields the page's address."""
    import uvicorn

    from torchnle.explorer.server import application, free_port

    opened = free_port()
    port = opened.getsockname()[1]
    app = application(explorer, port=port, **options)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(10)
