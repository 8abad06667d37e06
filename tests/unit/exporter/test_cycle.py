"""The heartbeat: its order, and that one failing beat does not stop it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

import pytest
from structlog.testing import capture_logs

from deskwatch.clock import ManualClock
from deskwatch.errors import Retryable
from exporter.analytic import Analytic, Result
from exporter.cycle import Cycle
from exporter.desk import DeskState, Feed
from exporter.detection.breach import Verdict
from exporter.exposition import PLAIN, Exposition
from exporter.health import METRICS, Health
from exporter.reading import Family, Reading, Sample
from tests.unit.exporter.desks import feed, make_config, position

NUMBER = Family("desk_number", "The number of the beat")


class Poller:
    """Feeds nothing; breaks where the test says so."""

    def __init__(self) -> None:
        self.breaks = False
        self.given: tuple[Feed, ...] = ()

    def feeds(self) -> tuple[Feed, ...]:
        """None."""
        if self.breaks:
            raise RuntimeError("the poller broke")
        return self.given

    def samples(self) -> list[Sample]:
        """None."""
        return []


class Detector:
    """Keeps what it is given, in order."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def judge(self, reading: Reading) -> Verdict:
        """Finds nothing."""
        self.seen.append(reading)
        return Verdict()

    def act(self, verdict: Verdict) -> None:
        """Does nothing else."""
        self.seen.append(verdict)

    def samples(self) -> list[Sample]:
        """None."""
        return []


class Heart:
    """A cycle of one second whose only analytic counts."""

    def __init__(self) -> None:
        self.clock, self.poller, self.detector, self.health = ManualClock(), Poller(), Detector(), Health()
        self.states: list[DeskState] = []
        self.held = threading.Event()
        """Not set: an analytic takes until it is."""
        self.held.set()
        self.exposition = Exposition(self.health.samples, self.clock.monotonic, 33.0)
        config = make_config().model_copy(update={"cycle_seconds": 1.0})
        counting = Analytic("counting", (NUMBER,), self._count)
        self.cycle = Cycle(config, self.clock, self.poller, [counting], self.exposition, self.detector, self.health)

    def _count(self, state: DeskState) -> Iterable[Result]:
        self.states.append(state)
        self.held.wait(10)
        return [NUMBER.sample(value=len(self.states))]

    def page(self) -> str:
        """What is served now."""
        return self.exposition.current(PLAIN).body(PLAIN).decode()

    async def beats(self, count: int) -> None:
        """Wait for so many beats of the heart, without turning the clock."""
        async with asyncio.timeout(10):
            while len(self.states) < count:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)


async def test_one_reading_feeds_page_and_detector() -> None:
    """So they cannot disagree."""
    heart = Heart()
    assert heart.cycle.latest is None
    await heart.cycle.once()
    assert heart.cycle.latest is not None
    assert heart.detector.seen == [heart.cycle.latest.reading, Verdict()]
    assert "\ndesk_number 1.0\n" in heart.page()
    assert f"\ndesk_cycle_timestamp_seconds {heart.clock.now().timestamp()}\n" in heart.page()


async def test_it_beats_every_cycle_seconds() -> None:
    """From start to start."""
    heart = Heart()
    task = asyncio.ensure_future(heart.cycle.run())
    await heart.beats(1)
    await heart.clock.advance(0.9)
    assert len(heart.states) == 1
    await heart.clock.advance(0.1)
    await heart.beats(2)
    task.cancel()


async def test_a_failing_beat_is_logged_and_counted_and_the_next_goes_on() -> None:
    """Meanwhile the last page is served, until it is too old."""
    heart = Heart()
    with capture_logs() as logs:
        task = asyncio.ensure_future(heart.cycle.run())
        await heart.beats(1)
        heart.poller.breaks = True
        await heart.clock.advance(1)
        assert heart.health.cycle_failures == 1
        assert "desk_number 1.0" in heart.page()
        await heart.clock.advance(32.5)
        assert "desk_number" not in heart.page()
        assert "deskwatch_cycle_failures_total" in heart.page()
        heart.poller.breaks = False
        await heart.clock.advance(1)
        await heart.beats(2)
        assert "desk_number 2.0" in heart.page()
        task.cancel()
    assert "the cycle failed; the last reading stands until it is too old" in [each["event"] for each in logs]


async def test_states_do_not_pile_up() -> None:
    """Each knows the one before while it is made, none its whole past."""
    heart = Heart()
    for _ in range(5):
        await heart.cycle.once()
    assert all(state.previous is None for state in heart.states[:-1])


def test_health_is_what_prometheus_client_says_of_a_process() -> None:
    """Every family that is declared, and no other."""
    samples = Health().samples()
    assert {sample.family for sample in samples} == set(METRICS)
    assert all(sample.value >= 0 for sample in samples)


async def test_a_configuration_changes_between_two_readings() -> None:
    """While one is computed the change waits, and the reading is of the old one throughout; the next is at once by the new."""
    heart = Heart()
    first = heart.cycle._config
    heart.held.clear()
    task = asyncio.ensure_future(heart.cycle.run())
    await heart.beats(1)

    async def change() -> None:
        async with heart.cycle.between():
            heart.cycle.replace(make_config(limits={("carry", "leverage"): 2.0}))
        heart.cycle.hasten()

    changing = asyncio.ensure_future(change())
    await asyncio.sleep(0.05)
    assert not changing.done()
    heart.held.set()
    await changing
    await heart.beats(2)
    task.cancel()
    assert [state.config is first for state in heart.states] == [True, False]
    assert heart.states[1].previous is None
    assert 'desk_limit{portfolio="carry",limit="leverage"} 2.0' in heart.page()


async def test_by_another_configuration_it_beats_in_another_step() -> None:
    """From the next wait on."""
    heart = Heart()
    task = asyncio.ensure_future(heart.cycle.run())
    await heart.beats(1)
    heart.cycle.replace(make_config().model_copy(update={"cycle_seconds": 10.0}))
    await heart.clock.advance(1)
    await heart.beats(2)
    await heart.clock.advance(9)
    assert len(heart.states) == 2
    await heart.clock.advance(1)
    await heart.beats(3)
    task.cancel()


async def test_a_cycle_that_hangs_keeps_the_configuration_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one who asked is told."""
    monkeypatch.setattr("exporter.cycle.PATIENCE_SECONDS", 0.05)
    heart = Heart()
    heart.held.clear()
    task = asyncio.ensure_future(heart.cycle.run())
    await heart.beats(1)
    with pytest.raises(Retryable, match="does not end"):
        async with heart.cycle.between():
            raise AssertionError("never here")
    heart.held.set()
    task.cancel()


async def test_symbols_are_renamed_and_series_bounded_as_configured() -> None:
    """On the page; also by a configuration that came later."""
    heart = Heart()
    sources = [{"type": "ecb", "name": "book", "rename": {"BTCUSDT": "BTC"}}]
    base = make_config().model_dump()
    later = type(make_config()).model_validate(base | {"sources": sources, "cardinality": {"families": {"python_info": 1}}})
    heart.poller.given = (feed(positions=[position("BTCUSDT", 1)]),)
    await heart.cycle.once()
    heart.cycle.replace(later)
    await heart.cycle.once()
    symbols = [[each.symbol for each in state.gather("positions")] for state in heart.states]  # type: ignore[union-attr]
    assert symbols == [["BTCUSDT"], ["BTC"]]
    assert 'desk_series_dropped_total{family="desk_number"} 0.0' in heart.page()
