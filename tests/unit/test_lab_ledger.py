import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.lab.ledger import Ledger, Stream, Tally, percentile
from kalinka_jms.lab.payload import Payload
from kalinka_jms.lab.report import as_json, as_text, rows

MS = 1_000_000  # ns

# Per message: the broker it is sent through, whether that acknowledges it, and the steps at which it arrives.
histories = st.lists(
    st.tuples(st.sampled_from(["dev1", "dev2"]), st.booleans(), st.lists(st.integers(0, 50), max_size=3))
)


@given(histories, st.randoms())
def test_the_verdict_counts_what_happened(history: list[tuple[str, bool, list[int]]], random) -> None:
    ledger = Ledger()
    sends = [ledger.send("a", "b", via, at=0) for via, _, _ in history]
    arrivals = sorted((step, random.random(), i) for i, (_, _, steps) in enumerate(history) for step in steps)
    acknowledged = [sends[i] for i, (_, ok, _) in enumerate(history) if ok]
    for payload in acknowledged[::2]:  # a PUBACK may come before the message arrives, or after it
        ledger.acknowledge(payload)
    for step, _, i in arrivals:
        ledger.arrive(sends[i].encode(), "b", at=step * MS)
    for payload in acknowledged:
        ledger.acknowledge(payload)
    total = ledger.verdict().total

    arrived = {i for _, _, i in arrivals}
    assert total.sent == len(acknowledged)
    assert total.received == sum(ok for i, (_, ok, _) in enumerate(history) if i in arrived)
    assert total.lost == total.sent - total.received == ledger.missing()
    assert total.unconfirmed == len(sends) - total.sent
    assert total.duplicates == len(arrivals) - len(arrived)
    assert ledger.outstanding() == len(sends) - len(arrived)
    assert total.reordered == _reordered(history, arrivals)
    assert (len(ledger.verdict().lost), len(ledger.verdict().late)) == (min(total.lost, 20), min(total.reordered, 20))
    assert total.max == (max(min(history[i][2]) for i in arrived) / 1000 if arrived else None)


def _reordered(history: list[tuple[str, bool, list[int]]], arrivals: list[tuple[int, float, int]]) -> int:
    firsts = list(dict.fromkeys(i for _, _, i in arrivals))
    late = [i for n, i in enumerate(firsts) if any(j > i and history[j][0] == history[i][0] for j in firsts[:n])]
    return len(late)


@given(st.lists(st.sampled_from(["a", "b", "c"])))
def test_streams_add_up_to_the_total(destinations: list[str]) -> None:
    ledger = Ledger()
    for destination in destinations:
        payload = ledger.send("x", destination, "dev1", at=0)
        ledger.acknowledge(payload)
        if destination != "a":
            ledger.arrive(payload.encode(), destination, at=MS)
    verdict = ledger.verdict()
    count = Counter(destinations)
    assert verdict.streams.keys() == {Stream("x", destination, "dev1") for destination in count}
    assert verdict.total.lost == sum(tally.lost for tally in verdict.streams.values()) == count["a"]
    assert ledger.missing("b") == 0 and ledger.missing("a") == count["a"]
    assert verdict.proven == bool(count.total() and not count["a"])


def test_nothing_sent_proves_nothing() -> None:
    assert not Ledger().verdict().proven
    assert Ledger().verdict().total == Tally()


def test_a_message_at_the_wrong_receiver_is_a_stray_and_not_an_arrival() -> None:
    ledger = Ledger()
    payload = ledger.send("a", "b", "dev1", at=0)
    ledger.acknowledge(payload)
    ledger.arrive(payload.encode(), "c", at=1)
    ledger.arrive(Payload(ledger.run, "a", "b", 99, 0).encode(), "b", at=1)
    verdict = ledger.verdict()
    assert verdict.strays == ("a → b #1 arrived at c", "a → b #99 arrived at b")
    assert verdict.total.lost == 1 and not verdict.proven


def test_strays_are_all_counted_and_few_are_kept() -> None:
    ledger = Ledger()
    for number in range(100):
        ledger.arrive(Payload(ledger.run, "a", "b", number, 0).encode(), "b", at=1)
    assert ledger.verdict().strays[-1] == "and 80 more"


def test_traffic_of_another_run_is_not_counted() -> None:
    ledger, other = Ledger(), Ledger()
    body = other.send("a", "b", "dev1", at=0).encode()
    assert ledger.arrive(body, "b", at=1) is None
    assert ledger.arrive(b"not ours", "b", at=1) is None
    assert ledger.verdict().total == Tally()


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_values_that_occurred(values: list[float]) -> None:
    ordered = sorted(values)
    assert percentile(ordered, 100) == ordered[-1]
    half = percentile(ordered, 50)
    assert half in ordered and sum(value <= half for value in ordered) * 2 >= len(ordered)


def test_the_report_reads_well() -> None:
    ledger = Ledger()
    for arrives in (True, False):
        payload = ledger.send("beast", "wolverine", "dev1", at=0)
        ledger.acknowledge(payload)
        if arrives:
            ledger.arrive(payload.encode(), "wolverine", at=1500 * MS)
    ledger.send("beast", "wolverine", "dev2", at=0)
    verdict = ledger.verdict()
    assert rows(verdict)[0] == ("beast → wolverine by dev1", "2", "1", "1", "0", "0", "1.5 s", "1.5 s", "1.5 s")
    assert rows(verdict)[-1][:4] == ("total", "2", "1", "1")
    assert "lost: beast → wolverine by dev1 #2" in as_text(verdict)
    assert "1 more were sent without an acknowledgement" in as_text(verdict)
    decoded = json.loads(as_json(verdict))
    assert decoded["total"]["lost"] == 1 and decoded["proven"] is False
    assert (
        decoded["streams"][0] | {"source": "beast", "destination": "wolverine", "via": "dev1"} == decoded["streams"][0]
    )
