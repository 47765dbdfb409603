"""Random features with captions that say which they are, and a translator small enough to train."""

from __future__ import annotations

import itertools
import os
import signal
import time
from dataclasses import replace

import torch
from tiny_translators import LAYERS, WIDTH, tiny_language_model

from torchnle.methods.devil.network import DeViLNetwork
from torchnle.training.recipe import Recipe
from torchnle.training.supply import Batch
from torchnle.translators.prefix import PrefixTranslator

CAPTIONS = ("a cat", "the red dog", "door of grass", "grass")
LOCATIONS = {"layer3": 9, "layer4": 4}
RECIPE = Recipe(
    steps=12,
    batch_size=8,
    learning_rate=1e-2,
    warmup=3,
    checkpoint_every=4,
    validate_every=4,
    log_every=1,
    moments_of=16,
)


class ToySupply:
    """Features around one of four centres; the caption is the centre's."""

    def __init__(self, count=24, *, nan_at=None, tick=lambda: None):
        self.count, self.nan_at, self.tick = count, nan_at, tick

    location_counts, widths = LOCATIONS, LAYERS

    def __len__(self):
        return self.count

    def batches(self, numbers):
        for chosen in numbers:
            self.tick()
            tokens = {layer: torch.stack([self._maps(n)[layer] for n in chosen]) for layer in LAYERS}
            yield Batch(tokens, [(CAPTIONS[n % 4], CAPTIONS[n % 4]) for n in chosen], list(chosen))

    def _maps(self, number):
        noise, centre = (torch.Generator().manual_seed(seed) for seed in (number, 100 + number % 4))
        maps = {}
        for layer, width in LAYERS.items():
            shift = 2 * torch.randn(width, generator=centre)
            maps[layer] = shift + torch.randn(LOCATIONS[layer], width, generator=noise)
            if number == self.nan_at:
                maps[layer][0, 0] = float("nan")
        return maps


def toy_translator(**options):
    torch.manual_seed(3)
    sizes = {"prefix_length": 3, "width": 8, "depth": 1, "heads": 2, "feedforward": 16}
    network = DeViLNetwork(LAYERS, WIDTH, **sizes, **options)
    return PrefixTranslator(network, tiny_language_model(), max_new_tokens=5)


def changed(**settings):
    return replace(RECIPE, **settings)


def fork(work):
    """Run `work` in a forked process on one thread; its exit status."""
    return _wait(_start(work))


def fork_and_kill(work, ticks, delay):
    """Run `work(tick)` in a forked process; kill it with signal 9 `delay` seconds after so many ticks.

    One tick later it waits to be killed, so that a fast machine does not finish the work meanwhile.
    """
    reading, writing = os.pipe()
    left = itertools.count(ticks, -1)

    def tick():
        if next(left) == 0:
            signal.pause()
        os.write(writing, b".")

    child = _start(lambda: work(tick))
    os.close(writing)
    for _ in range(ticks):
        os.read(reading, 1)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.close(reading)
    return _wait(child)


def _start(work):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def _wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
