from __future__ import annotations

from itertools import chain

import pytest

from torchnle.training.order import Order, Part


def order(parts, steps=40, batch=4, seed=0, chunks=None):
    return Order(parts, steps=steps, batch_size=batch, seed=seed, chunks=chunks)


def read(found, steps):
    return list(chain.from_iterable(found.batch(step) for step in steps))


def test_an_epoch_reads_everything_once_in_another_order():
    found = order([Part(range(10))], batch=5)
    epochs = [read(found, (2 * epoch, 2 * epoch + 1)) for epoch in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4


def test_a_batch_over_the_end_of_an_epoch():
    found = order([Part(range(10))])
    assert sorted(read(found, range(5))[:10]) == list(range(10))
    assert sorted(read(found, range(5))[10:]) == list(range(10))


def test_any_step_is_the_same_whatever_was_asked_before():
    found = order([Part(range(10))])
    later = order([Part(range(10))]).batch(33)
    assert [found.batch(step) for step in range(40)][33] == later
    assert order([Part(range(10))], seed=1).batch(33) != later


def test_parts_are_read_during_their_steps():
    found = order([Part(range(8), stop=6), Part(range(8, 20), start=3)])
    assert set(read(found, range(3))) == set(range(8))
    assert {number < 8 for number in read(found, range(3, 6))} == {True, False}
    assert set(read(found, range(6, 40))) == set(range(8, 20))


def test_nothing_to_read():
    with pytest.raises(ValueError, match="from step 5 on there is no data"):
        order([Part(range(8), stop=5)])
    with pytest.raises(ValueError, match="from step 0 on"):
        order([Part(range(8), start=5)])
    order([Part(range(8), stop=40)])  # it stops when training does


def test_shards_are_read_one_after_the_other():
    """With a window of 100 batches, a batch comes from no more shards than such a window holds."""
    shards = [number // 500 for number in range(5000)]
    found = order([Part(range(5000))], batch=10, steps=500, chunks=shards)
    numbers = read(found, range(500))
    assert sorted(numbers) == list(range(5000))
    for window in (numbers[i : i + 1000] for i in range(0, 5000, 1000)):
        assert len({shards[number] for number in window}) == 2
        assert window != sorted(window)
    assert len({shards[number] for number in numbers[:100]}) == 2  # shuffled within the window
