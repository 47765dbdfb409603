"""The same table on a GPU, in one run of under ten minutes: ``python -m benchmarks.gpu``, in `kernels/`.

First what the machine can do, then whether the kernels are right (nothing is timed if one is not), then the
times, the ones that tell most first. Results are written after each step, so that a run that is cut short
leaves what it found. Needs torch, triton, transformers and jaxtyping; neither Captum nor the network: the
language model has SmolLM2-135M's sizes and random weights, which take the same time as trained ones.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
import torchnle_kernels.operators  # noqa: F401  (registers torch.ops.torchnle.*)
from torch import Tensor
from torchnle_kernels import reference

from benchmarks import common
from benchmarks.common import Contender, Job, Timing, close

if TYPE_CHECKING:
    from torchnle.language.model import LanguageModel

#: The largest errors against float64 of the rounded inputs: of lse, and of mu relative to its norm.
_BOUNDS = {torch.float32: (1e-4, 1e-5), torch.float16: (1e-3, 2e-3), torch.bfloat16: (2e-3, 2e-2)}


class WrongResultError(RuntimeError):
    """A kernel does not compute what its definition says."""


@dataclass(frozen=True)
class Sizes:
    """Everything that is as large as the real thing, or small enough to try the script on a CPU."""

    vocabulary: int = 49_152
    width: int = 576
    layers: int = 30
    heads: int = 9
    key_heads: int = 3
    inner: int = 1536
    rows: tuple[int, ...] = (49, 196, 1029, 8232)
    locations: tuple[int, ...] = (49, 1029)
    copied: int = 2**30


TINY = Sizes(600, 32, 2, 4, 2, 48, rows=(5, 33), locations=(3,), copied=2**12)


@dataclass(frozen=True)
class Run:
    """What every step is given.

    Args:
        device: Where it runs.
        sizes: How large everything is.
        rounds: Interleaved rounds a job.
    """

    device: torch.device
    sizes: Sizes
    rounds: int

    def measure(self, job: Job) -> dict[str, Any]:
        """Time a job by the GPU's clock."""
        return common.measure(job, rounds=self.rounds, allow_busy=True, clock=self.clock)

    def clock(self, work: Callable[[], Any]) -> Timing:
        """Run something and say how long the GPU took; the CPU's time where there is no GPU."""
        if self.device.type != "cuda":
            return common.by_processor(work)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        wall = time.perf_counter()
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return Timing(start.elapsed_time(end) / 1e3, time.perf_counter() - wall)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
        """Random numbers, the same on every machine."""
        generator = torch.Generator().manual_seed(sum(shape))
        return (scale * torch.randn(*shape, generator=generator)).to(self.device, dtype)

    def head(self, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states, a head whose logits reach about 20, and target tokens."""
        vocabulary, width = self.sizes.vocabulary, self.sizes.width
        weight = self.normal(vocabulary, width, dtype=dtype, scale=4 / width**0.5)
        targets = torch.randint(vocabulary, (rows,), generator=torch.Generator().manual_seed(1))
        return self.normal(rows, width, dtype=dtype), weight, targets.to(self.device)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """The kernels' on a GPU; float16 products are slow on a CPU."""
        return tuple(_BOUNDS) if self.device.type == "cuda" else (torch.float32,)


def ceilings(run: Run) -> Iterator[dict[str, Any]]:
    """Bytes a second of a copy and operations a second of a product: what all times are held against."""
    source = run.normal(run.sizes.copied // 4)
    side = 2 ** (run.sizes.copied.bit_length() // 2 - 2)
    a, b = (run.normal(side, side, dtype=torch.bfloat16) for _ in range(2))
    seconds = {}
    for name, work in (("copy", source.clone), ("product", lambda: a @ b)):
        work()
        seconds[name] = min(run.clock(work).counted for _ in range(5))
    copied = 2 * source.numel() * 4 / seconds["copy"] / 1e12
    product = 2 * side**3 / seconds["product"] / 1e12
    print(f"copies {copied:.2f} TB/s, bfloat16 products {product:.0f} TFLOP/s")
    yield {"job": "ceilings", "terabytes_per_second": copied, "teraflops_bfloat16": product}


def correctness(run: Run) -> Iterator[dict[str, Any]]:
    """All three operators against their definitions in float64 on the rounded inputs."""
    for dtype in run.dtypes:
        h, weight, _ = run.head(min(257, run.sizes.rows[-1]), dtype)
        lse, top, index = torch.ops.torchnle.linear_lse(h, weight, None, True, "auto")
        exact_lse, exact_top, exact_index = reference.linear_lse(
            h.double(), weight.double(), need_argmax=True
        )
        mu_lse, mu = torch.ops.torchnle.linear_lse_mu(h, weight, None, "auto")
        exact_mu = reference.linear_lse_mu(h.double(), weight.double())[1]
        lse_bound, mu_bound = _BOUNDS[dtype]
        yield _error("linear_lse", dtype, (lse - exact_lse).abs().max(), lse_bound)
        yield _error("linear_lse, maximum", dtype, (top - exact_top).abs().max(), lse_bound)
        yield _error("linear_lse, argmax, wrong", dtype, (index != exact_index).float().mean(), 0.01)
        yield _error("linear_lse_mu, lse", dtype, (mu_lse - exact_lse).abs().max(), lse_bound)
        yield _error("linear_lse_mu, mu", dtype, (mu - exact_mu).norm() / exact_mu.norm(), mu_bound)
        q, k, v, lengths = _attention_inputs(run, 65, 40, dtype)
        found = torch.ops.torchnle.short_decode_attention(q, k, v, lengths, None, "auto")
        exact = reference.short_decode_attention(q.double(), k.double(), v.double(), lengths)
        yield _error("short_decode_attention", dtype, (found - exact).abs().max(), 10 * lse_bound)


def _error(what: str, dtype: torch.dtype, error: Tensor, bound: float) -> dict[str, Any]:
    found = float(error)
    print(f"  {what}, {common.dtype_name(dtype)}: error {found:.1e}, at most {bound:g}")
    if not found <= bound:
        raise WrongResultError(f"{what} in {dtype} is off by {found:.2g}, more than {bound:g}.")
    return {"job": f"correctness: {what}, {common.dtype_name(dtype)}", "error": found, "bound": bound}


def heads(run: Run) -> Iterator[dict[str, Any]]:
    """The head against logits, and against other people's heads where they are installed."""
    from benchmarks.suites import head

    for dtype in (torch.bfloat16, torch.float32):
        for rows in run.sizes.rows:
            inputs = run.head(rows, dtype)
            yield run.measure(head.forward(*inputs))
            yield run.measure(head.backward(*inputs))


def attention(run: Run) -> Iterator[dict[str, Any]]:
    """One new token a row over 20 keys, against PyTorch's attention."""
    for rows in run.sizes.rows:
        q, k, v, lengths = _attention_inputs(run, rows, 20, torch.bfloat16)
        ours = partial(torch.ops.torchnle.short_decode_attention, q, k, v, lengths, None, "auto")
        yield run.measure(
            Job(
                name=f"attention of a new token, {rows} rows, 20 keys, bfloat16",
                ours=Contender("short_decode_attention", ours),
                peers=[Contender("scaled_dot_product_attention", partial(_sdpa, q, k, v))],
                agree=close(3e-2),
            )
        )


def _attention_inputs(run: Run, rows: int, keys: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    sizes = run.sizes
    width = sizes.width // sizes.heads
    k, v = (run.normal(rows, sizes.key_heads, keys, width, dtype=dtype, scale=s) for s in (1.0, 0.5))
    lengths = torch.full((rows,), keys, device=run.device)
    return run.normal(rows, sizes.heads, width, dtype=dtype), k, v, lengths


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=True)[:, :, 0]


def captions(run: Run) -> Iterator[dict[str, Any]]:
    """Greedy captions against transformers' `generate`."""
    from benchmarks.suites import captions

    for rows in run.sizes.locations:
        yield run.measure(captions.captions(language_model(run), rows, agree=0.0))


def scores(run: Run) -> Iterator[dict[str, Any]]:
    """The names of 100 classes against one pass a name."""
    from benchmarks.suites import scoring

    for rows in run.sizes.locations:
        yield run.measure(scoring.names(language_model(run), rows=rows, agree=1.0, targets={}))


def training(run: Run) -> Iterator[dict[str, Any]]:
    """One step of a translator against transformers' loss."""
    from benchmarks.suites import training

    yield run.measure(training.step(language_model(run), agree=0.05, targets={}))


#: In the order they run; how many seconds each may take, at most, as it was guessed before the first run.
STEPS: dict[Callable[[Run], Iterator[dict[str, Any]]], float] = {
    ceilings: 15,
    correctness: 60,
    heads: 120,
    attention: 30,
    captions: 180,
    scores: 60,
    training: 30,
}


@cache
def language_model(run: Run) -> LanguageModel:
    """A Llama of the given sizes with random weights, and a tokenizer of whole words; texts never end."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from benchmarks import jobs
    from torchnle.language.model import LanguageModel

    sizes = run.sizes
    spoken = dict.fromkeys(" ".join((*jobs.CLASS_NAMES, jobs.WORDS, *_training_words())).split())
    words = ["<s>", *spoken, *(f"word{n}" for n in range(sizes.vocabulary))][: sizes.vocabulary]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(common.SEED)
    config = LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=sizes.inner,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_heads,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=None,
    )
    dtype = torch.bfloat16 if run.device.type == "cuda" else torch.float32
    model = LlamaForCausalLM(config).to(run.device, dtype)
    return LanguageModel(model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>"))


def _training_words() -> list[str]:
    from benchmarks.suites import training

    return training.CAPTIONS


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run every step that there is still time for."""
    names = {step.__name__: step for step in STEPS}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("steps", nargs="*", choices=[*names, []], help="which; all by default")
    parser.add_argument("--minutes", type=float, default=9, help="start no step after so long (default 9)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds a job (default 7)")
    parser.add_argument("--device", default="cuda", help="cpu only tries the script, with tiny sizes")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU; --device cpu tries the script on a CPU, with tiny sizes.")
    open_package()
    device = torch.device(options.device)
    run = Run(device, Sizes() if device.type == "cuda" else TINY, options.rounds)
    until = time.monotonic() + 60 * options.minutes
    records: list[dict[str, Any]] = []
    for name in options.steps or names:
        step, left = names[name], until - time.monotonic()
        if left < STEPS[step]:
            print(f"\n{name} is left out: {left:.0f} s are left, and it may take {STEPS[step]:.0f}.")
            continue
        print(f"\n== {name}: {step.__doc__}")
        for record in step(run):
            records.append(record)
            common.save("gpu" if device.type == "cuda" else "gpu_tried_on_cpu", records)


def open_package() -> None:
    """Make torchnle's inner modules importable where Captum, which its front door needs, is not installed."""
    if "torchnle" not in sys.modules:
        package = ModuleType("torchnle")
        package.__path__ = [str(Path(__file__).parents[2] / "torchnle")]
        sys.modules["torchnle"] = package


if __name__ == "__main__":
    main()
