"""The heartbeat: its order, and that one failing beat does not stop it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from structlog.testing import capture_logs

from deskwatch.clock import ManualClock
from exporter.analytic import Analytic, Result
from exporter.cycle import Cycle
from exporter.desk import DeskState, Feed
from exporter.detection.breach import Verdict
from exporter.exposition import PLAIN, Exposition
from exporter.health import METRICS, Health
from exporter.reading import Family, Reading, Sample
from tests.unit.exporter.desks import make_config

NUMBER = Family("desk_number", "The number of the beat")


class Poller:
    """Feeds nothing; breaks where the test says so."""

    def __init__(self) -> None:
        self.breaks = False

    def feeds(self) -> tuple[Feed, ...]:
        """None."""
        if self.breaks:
            raise RuntimeError("the poller broke")
        return ()

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
        self.exposition = Exposition(self.health.samples, self.clock.monotonic, 33.0)
        config = make_config().model_copy(update={"cycle_seconds": 1.0})
        counting = Analytic("counting", (NUMBER,), self._count)
        self.cycle = Cycle(config, self.clock, self.poller, [counting], self.exposition, self.detector, self.health)

    def _count(self, state: DeskState) -> Iterable[Result]:
        self.states.append(state)
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
