"""The barrier against a naive model: a list of (number, items, opened, reported)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kalinka_jms.errors import LinkLost
from kalinka_jms.sub.barrier import Barrier, Proof

batches = st.lists(st.lists(st.text(max_size=3), max_size=5), min_size=1, max_size=6)


def test_an_echo_without_reports_proves_everything() -> None:
    barrier: Barrier[str] = Barrier()
    number = barrier.open(["a", "b"], now=1.0)
    assert barrier.echo(number) == Proof(("a", "b"), frozenset())


def test_a_report_takes_its_send_out_of_the_proof() -> None:
    barrier: Barrier[str] = Barrier()
    first, second = barrier.open(["a", "b"], now=1.0), barrier.open(["c"], now=2.0)
    barrier.report(first, 1)
    barrier.report(first, 1)
    assert barrier.echo(first).undelivered == {1}
    assert barrier.echo(second).undelivered == frozenset()


@given(batches, st.data())
def test_every_item_is_proven_once_or_abandoned(sent: list[list[str]], data: st.DataObject) -> None:
    barrier: Barrier[str] = Barrier()
    numbers = [barrier.open(items, now=0.0) for items in sent]
    assert numbers == list(range(1, len(sent) + 1))
    echoed = data.draw(st.integers(min_value=0, max_value=len(sent)))
    proven = [item for number in numbers[:echoed] for item in barrier.echo(number).items]
    assert proven + barrier.abandon() == [item for items in sent for item in items]
    assert (barrier.in_flight, barrier.oldest, barrier.abandon()) == (0, None, [])


@given(batches, st.data())
def test_an_echo_out_of_order_proves_nothing(sent: list[list[str]], data: st.DataObject) -> None:
    barrier: Barrier[str] = Barrier()
    for items in sent:
        barrier.open(items, now=0.0)
    with pytest.raises(LinkLost):
        barrier.echo(data.draw(st.integers(min_value=-1, max_value=len(sent) + 2).filter(lambda n: n != 1)))
    assert barrier.in_flight == len(sent)


@given(st.lists(st.text(max_size=2), max_size=5), st.integers(min_value=-9, max_value=9))
def test_a_report_for_no_send_of_the_batch_is_not_believed(items: list[str], index: int) -> None:
    barrier: Barrier[str] = Barrier()
    number = barrier.open(items, now=0.0)
    if 0 <= index < len(items):
        barrier.report(number, index)
        assert barrier.echo(number).undelivered == {index}
    else:
        with pytest.raises(LinkLost):
            barrier.report(number, index)


def test_a_late_report_is_not_believed() -> None:
    barrier: Barrier[str] = Barrier()
    with pytest.raises(LinkLost):
        barrier.report(1, 0)
    number = barrier.open(["a"], now=0.0)
    barrier.echo(number)
    with pytest.raises(LinkLost):
        barrier.report(number, 0)
    with pytest.raises(LinkLost):
        barrier.echo(number)


def test_the_items_are_those_at_the_time_of_opening() -> None:
    barrier: Barrier[str] = Barrier()
    items = ["a"]
    number = barrier.open(items, now=0.0)
    items.append("never sent")
    assert barrier.echo(number).items == ("a",)


class BarrierMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.barrier: Barrier[int] = Barrier()
        self.waiting: list[tuple[int, list[int], float, set[int]]] = []
        self.opened = 0
        self.now = 0.0

    @rule(count=st.integers(min_value=0, max_value=4), passed=st.floats(min_value=0, max_value=5))
    def open(self, count: int, passed: float) -> None:
        self.now += passed
        self.opened += 1
        items = [self.opened * 10 + place for place in range(count)]
        assert self.barrier.open(items, self.now) == self.opened
        self.waiting.append((self.opened, items, self.now, set()))

    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(min_value=0, max_value=self.opened + 1))
        batch = next((b for b in self.waiting if b[0] == number), None)
        index = data.draw(st.integers(min_value=-1, max_value=len(batch[1]) if batch else 1))
        if batch is None or not 0 <= index < len(batch[1]):
            with pytest.raises(LinkLost):
                self.barrier.report(number, index)
        else:
            self.barrier.report(number, index)
            batch[3].add(index)

    @precondition(lambda self: self.waiting)
    @rule()
    def echo(self) -> None:
        number, items, _, reported = self.waiting.pop(0)
        assert self.barrier.echo(number) == Proof(tuple(items), frozenset(reported))

    @rule(data=st.data())
    def another_echo(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(min_value=0, max_value=self.opened + 1))
        if not self.waiting or self.waiting[0][0] != number:
            with pytest.raises(LinkLost):
                self.barrier.echo(number)

    @rule()
    def abandon(self) -> None:
        assert self.barrier.abandon() == [item for batch in self.waiting for item in batch[1]]
        self.waiting.clear()

    @invariant()
    def agrees(self) -> None:
        assert self.barrier.in_flight == len(self.waiting)
        assert self.barrier.oldest == (self.waiting[0][2] if self.waiting else None)


TestBarrierMachine = BarrierMachine.TestCase
