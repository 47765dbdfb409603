"""Decode pictures in worker processes, in order, ahead of the model."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchnle.attr.dataset.picture_list import PictureList

#: A picture's number, and its input for the model or why it cannot be read.
Decoded: TypeAlias = tuple[int, Tensor | str]
_MOST_WORKERS = 8
#: Pictures from which on processes that decode are worth their start.
_FEW = 16
#: Options of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def decode(
    pictures: PictureList,
    numbers: Sequence[int],
    preprocess: Callable[[Image.Image], Tensor],
    *,
    workers: int,
    ahead: int,
) -> Iterator[Decoded]:
    """Yield pictures as a model takes them, in the order of `numbers`, decoded while the model works.

    Args:
        pictures: The pictures.
        numbers: The indices of those to decode.
        preprocess: Converts an RGB image to (C, H, W).
        workers: The number of worker processes; 0 = decode in this one.
        ahead: The largest number of pictures that are decoded in advance.

    Raises:
        OSError: If a worker process is killed, for example by the system when memory runs out.
    """
    loader: DataLoader[Any] = DataLoader(
        _Task(pictures, preprocess),
        batch_size=None,
        sampler=numbers,
        num_workers=min(workers, len(numbers)),
        prefetch_factor=max(2, -(-ahead // workers)) if workers and len(numbers) else None,
        collate_fn=_as_it_is,
        worker_init_fn=_reuse_memory,
    )
    found = iter(loader)
    while True:
        try:
            number, values = next(found)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise OSError(f"a process that decodes died: {error} Run again with fewer workers.") from error
        yield number, values if isinstance(values, str) else torch.from_numpy(values)


def suitable_workers(pictures: int) -> int:
    """Choose the number of worker processes: one per processor that this process may use, at most eight.

    Example:
        >>> suitable_workers(3)
        0
    """
    return 0 if pictures < _FEW else min(_processors(), _MOST_WORKERS)


@contextmanager
def threads_beside(workers: int) -> Iterator[None]:
    """Limit PyTorch's threads to the processors that worker processes leave over, at least one.

    Threads of a model that shares its processors with workers wait for each other by spinning: on two
    processors with two workers, two threads took 2.5 times the processor time of one.

    Args:
        workers: The number of worker processes.

    Example:
        >>> with threads_beside(workers=1000):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, _processors() - workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reuse_memory(_: int) -> None:
    """Let a worker keep the memory of one picture for the next one, where the C library is glibc.

    Else it gives large blocks back to the system, which clears them again: a fifth of the time that decoding
    and resizing a picture of 12 megapixels takes.
    """
    if sys.platform == "linux" and (tune := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        tune(_MMAP_MAX, 0)
        tune(_TRIM_THRESHOLD, -1)


@dataclass(frozen=True)
class _Task(Dataset[tuple[int, "np.ndarray[Any, Any] | str"]]):
    """Decoding one picture. Values travel as bytes: tensors would keep a file open each."""

    pictures: PictureList
    preprocess: Callable[[Image.Image], Tensor]

    def __getitem__(self, number: int) -> tuple[int, np.ndarray[Any, Any] | str]:
        try:
            picture = self.pictures.open(number)
        except ValueError as error:
            return number, str(error)
        return number, self.preprocess(picture).numpy()


def _as_it_is(value: Any) -> Any:
    return value
