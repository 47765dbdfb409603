"""Engines built for text on CPUs: CTranslate2, which takes no soft prefixes, and llama.cpp, which does."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks import llama
from benchmarks.common import Contender, Job, dtype_name, same_ids
from benchmarks.jobs import language_model, prefixes, token_prompts
from torchnle import hub
from torchnle.language import decoding
from torchnle.language.device import best_dtype
from torchnle.language.model import LanguageModel

_TOKENS = 20


def jobs() -> Iterator[Job]:
    """20 tokens after 10 for 1, 49 and 196 rows, by the engines that are installed."""
    lm = language_model(best_dtype(torch.device("cpu")))
    for rows in (1, 49, 196):
        if find_spec("ctranslate2"):
            yield _ctranslate2(lm, token_prompts(lm, rows))
        if find_spec("llama_cpp"):
            yield _llama(lm, prefixes(lm, rows))


def _ctranslate2(lm: LanguageModel, prompts: Tensor) -> Job:
    soft = lm.embed(prompts)
    return Job(
        name=f"greedy texts after token prompts, {len(prompts)} rows, {_TOKENS} tokens",
        ours=_ours(lm, soft),
        peers=[
            Contender(f"CTranslate2, {kind}", lambda kind=kind: _theirs(lm, prompts, kind))
            for kind in ("float32", "int8")
        ],
        agree=same_ids(0.0),
        note="an anchor and no alternative: CTranslate2 takes tokens only (its issue 1117).",
    )


def _llama(lm: LanguageModel, soft: Tensor) -> Job:
    context = lm.context(soft)
    return Job(
        name=f"greedy texts after soft prefixes, {len(soft)} rows, {_TOKENS} tokens",
        ours=_ours(lm, soft),
        peers=[Contender("llama.cpp, Q4_1", lambda: llama.greedy(context, _TOKENS, lm.eos_ids))],
        agree=same_ids(0.0),
        note="the weights are the same 4 bits; llama.cpp also rounds what they are multiplied with to 8.",
    )


def _ours(lm: LanguageModel, soft: Tensor) -> Contender:
    name = f"torchnle, {dtype_name(lm.dtype)}"
    return Contender(name, lambda: decoding.greedy(lm, soft, max_new_tokens=_TOKENS).ids)


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
