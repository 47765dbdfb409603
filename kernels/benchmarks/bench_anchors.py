"""An engine built for text on CPUs, CTranslate2, on token prompts: it takes no soft prefixes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Contender, Job, dtype_name, same_ids
from benchmarks.jobs import language_model, token_prompts
from torchnle import hub
from torchnle.language import decoding
from torchnle.language.device import best_dtype
from torchnle.language.model import LanguageModel

_TOKENS = 20


def jobs() -> Iterator[Job]:
    """20 tokens after 10 for 1, 49 and 196 rows, if ctranslate2 is installed."""
    if importlib.util.find_spec("ctranslate2") is None:
        return
    lm = language_model(best_dtype(torch.device("cpu")))
    for rows in (1, 49, 196):
        prompts = token_prompts(lm, rows)
        yield Job(
            name=f"greedy texts after token prompts, {rows} rows, {_TOKENS} tokens",
            ours=Contender(f"torchnle, {dtype_name(lm.dtype)}", lambda p=prompts: _ours(lm, p)),
            peers=[
                Contender(f"CTranslate2, {kind}", lambda p=prompts, k=kind: _theirs(lm, p, k))
                for kind in ("float32", "int8")
            ],
            agree=same_ids(0.0),
            note="an anchor and no alternative: CTranslate2 takes tokens only (its issue 1117).",
        )


def _ours(lm: LanguageModel, prompts: Tensor) -> list[list[int]]:
    return decoding.greedy(lm, lm.embed(prompts), max_new_tokens=_TOKENS).ids


def _theirs(lm: LanguageModel, prompts: Tensor, kind: str) -> list[list[int]]:
    start = [] if lm.bos_id is None else [lm.bos_id]
    tokens = [lm.tokenizer.convert_ids_to_tokens(start + row) for row in prompts.tolist()]
    found = _engine(kind).generate_batch(
        tokens,
        max_length=_TOKENS,
        sampling_topk=1,
        include_prompt_in_result=False,
        end_token=list(lm.eos_ids),
        max_batch_size=len(tokens),
    )
    return [list(each.sequences_ids[0]) for each in found]


@cache
def _engine(kind: str) -> Any:
    ctranslate2 = importlib.import_module("ctranslate2")
    with TemporaryDirectory() as folder:
        converter = ctranslate2.converters.TransformersConverter(str(hub.resolve(hub.SMOLLM2)))
        path = converter.convert(str(Path(folder) / kind), quantization=kind)
        return ctranslate2.Generator(path, device="cpu", compute_type=kind, inter_threads=1, intra_threads=1)
