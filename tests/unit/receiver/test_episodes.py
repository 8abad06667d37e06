"""Episodes: what opens one, what closes one, and what must do neither."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.receiver.bodies import at, firing, group, resolved, rfc3339
from tests.unit.receiver.desk import Desk, desk


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as found:
        yield found


async def episodes(receiver: Desk) -> list[Any]:
    """Every episode in order of opening: alert name and whether it is open."""
    rows = await receiver.rows("SELECT alert_name, resolved_at_us IS NULL AS open FROM episodes ORDER BY rowid")
    return [(row["alert_name"], bool(row["open"])) for row in rows]


async def test_a_firing_opens_and_a_resolve_closes(receiver: Desk) -> None:
    """One episode, one page, one all-clear; PagerDuty's key is the identity throughout."""
    await receiver.notify(group(firing()))
    await receiver.notify(group(resolved(until=100)), seconds=120)
    assert await episodes(receiver) == [("VaRLimitExceeded", False)]
    assert await receiver.kinds("chat") == ["trigger", "resolve"]
    pages = await receiver.messages("pager")
    assert [page.kind for page in pages] == ["trigger", "resolve"]
    assert pages[0].dedup_key == pages[1].dedup_key == pages[0].episodes[0].identity
    assert pages[0].episodes[0].episode_id == pages[1].episodes[0].episode_id
    assert pages[1].episodes[0].resolved_at == at(100)


@pytest.mark.parametrize("label", ["detector", "replica", "prometheus", "monitor"])
async def test_labels_that_tell_detectors_apart_do_not_tell_alerts_apart(receiver: Desk, label: str) -> None:
    """Two Prometheus replicas, or both detectors, are one episode and one page."""
    await receiver.notify(group(firing(**{label: "a"})))
    await receiver.notify(group(firing(since=3, **{label: "b"}), key="other"), seconds=5)
    assert await episodes(receiver) == [("VaRLimitExceeded", True)]
    assert await receiver.kinds("pager") == ["trigger"]


async def test_any_other_label_makes_another_episode(receiver: Desk) -> None:
    """Two portfolios are two pages, and one message in the chat."""
    await receiver.notify(group(firing(portfolio="carry"), firing(portfolio="desk")))
    assert len(await episodes(receiver)) == 2
    assert await receiver.kinds("pager") == ["trigger", "trigger"]
    (message,) = await receiver.messages("chat")
    assert len(message.episodes) == len(message.changed) == 2


async def test_starts_at_may_drift_without_a_second_episode(receiver: Desk) -> None:
    """Peers of an Alertmanager cluster disagree about when it began."""
    await receiver.notify(group(firing(since=0)))
    await receiver.notify(group(firing(since=7)), seconds=10)
    assert len(await episodes(receiver)) == 1


async def test_a_copy_is_journaled_and_says_nothing(receiver: Desk) -> None:
    """A retry, or the peer's copy, within the window."""
    for seconds in (0, 1, 59):
        await receiver.notify(group(firing()), seconds=seconds)
    assert await receiver.kinds() == ["trigger"]
    assert await receiver.outcomes() == ["changed", "duplicate", "duplicate"]


async def test_the_same_notification_later_is_a_repeat(receiver: Desk) -> None:
    """Alertmanager's repeat_interval: said again, on the same key, and a copy of the repeat is not."""
    for seconds in (0, 3600, 3605, 7200):
        await receiver.notify(group(firing()), seconds=seconds)
    assert await receiver.kinds("pager") == ["trigger", "repeat", "repeat"]
    assert await receiver.outcomes() == ["changed", "repeat", "duplicate", "repeat"]


async def test_a_repeat_after_part_of_the_group_resolved_is_a_repeat_too(receiver: Desk) -> None:
    """Its notification key is new, yet what it says is not."""
    await receiver.notify(group(firing(portfolio="a"), firing(portfolio="b")))
    await receiver.notify(group(firing(portfolio="a"), resolved(portfolio="b", until=90)), seconds=100)
    await receiver.notify(group(firing(portfolio="a")), seconds=3700)
    assert await receiver.kinds() == ["trigger", "resolve", "repeat"]


async def test_the_exporters_own_reposts_never_repeat(receiver: Desk) -> None:
    """It posts a standing breach every few seconds; nobody wants to be told every minute."""
    for seconds in range(0, 300, 15):
        await receiver.notify(group(firing(detector="direct")), seconds=seconds)
    assert await receiver.kinds("pager") == ["trigger"]


async def test_a_partial_resolve_names_what_ended_and_what_still_fires(receiver: Desk) -> None:
    """The group message shows both, firing first; only the ended one is resolved on the pager."""
    await receiver.notify(group(firing(portfolio="a"), firing(portfolio="b")))
    await receiver.notify(group(firing(portfolio="a"), resolved(portfolio="b", until=90)), seconds=100)
    message = (await receiver.messages("chat"))[-1]
    assert [(view.labels["portfolio"], view.status) for view in message.episodes] == [("a", "firing"), ("b", "resolved")]
    assert message.changed == (message.episodes[1].episode_id,)
    assert await receiver.kinds("pager") == ["trigger", "trigger", "resolve"]


async def test_firing_again_after_a_resolve_is_a_new_episode(receiver: Desk) -> None:
    """New id, same identity."""
    await receiver.notify(group(firing()))
    await receiver.notify(group(resolved(until=100)), seconds=120)
    await receiver.notify(group(firing(since=150)), seconds=160)
    first, _, second = await receiver.messages("pager")
    assert first.dedup_key == second.dedup_key
    assert first.episodes[0].episode_id != second.episodes[0].episode_id
    assert await episodes(receiver) == [("VaRLimitExceeded", False), ("VaRLimitExceeded", True)]


async def test_a_late_copy_of_the_firing_reopens_nothing(receiver: Desk) -> None:
    """Its startsAt is that of the resolved episode; the resolve that follows from the slow peer ends the matter."""
    await receiver.notify(group(firing()))
    await receiver.notify(group(resolved(until=100)), seconds=120)
    await receiver.notify(group(firing()), seconds=125)
    assert await receiver.kinds("pager") == ["trigger", "resolve"]
    await receiver.notify(group(resolved(until=100)), seconds=300)
    receiver.clock.jump(10_000)
    assert not await receiver.worker.release_held()
    assert await receiver.kinds("pager") == ["trigger", "resolve"]


async def test_a_late_copy_with_a_peers_drifted_start_reopens_nothing(receiver: Desk) -> None:
    """The start a peer was seen to report counts as one of the episode's."""
    await receiver.notify(group(firing(since=0)))
    await receiver.notify(group(firing(since=4)), seconds=5)
    await receiver.notify(group(resolved(until=100)), seconds=120)
    await receiver.notify(group(firing(since=4)), seconds=125)
    assert await receiver.kinds("pager") == ["trigger", "resolve"]


async def test_an_alert_alertmanager_lost_sight_of_is_held_but_not_lost(receiver: Desk) -> None:
    """Alertmanager timed it out while Prometheus was cut off; it never stopped firing, so its start is the old one.

    No resolve follows, so after the hold it opens. Alertmanager would not say it again for hours.
    """
    await receiver.notify(group(firing()))
    await receiver.notify(group(resolved(until=100)), seconds=120)
    await receiver.notify(group(firing()), seconds=200)
    assert not await receiver.worker.release_held()
    receiver.clock.jump(120 + 330 - 200)
    assert await receiver.worker.release_held()
    assert await receiver.kinds("pager") == ["trigger", "resolve", "trigger"]
    assert not await receiver.worker.release_held()


async def test_long_after_the_resolve_the_old_start_opens_at_once(receiver: Desk) -> None:
    """No copy is that late."""
    await receiver.notify(group(firing()))
    await receiver.notify(group(resolved(until=100)), seconds=120)
    await receiver.notify(group(firing()), seconds=120 + 331)
    assert await receiver.kinds("pager") == ["trigger", "resolve", "trigger"]


async def test_a_new_start_cancels_what_was_held(receiver: Desk) -> None:
    """The real refiring opens; the held copy does not open a second one."""
    await receiver.notify(group(firing()))
    await receiver.notify(group(resolved(until=100)), seconds=120)
    await receiver.notify(group(firing()), seconds=125)
    await receiver.notify(group(firing(since=130)), seconds=131)
    receiver.clock.jump(1000)
    assert not await receiver.worker.release_held()
    assert await receiver.kinds("pager") == ["trigger", "resolve", "trigger"]


async def test_a_resolve_nobody_waits_for_is_recorded_and_says_nothing(receiver: Desk) -> None:
    """A receiver set up in the middle of an incident."""
    await receiver.notify(group(resolved(until=100)), seconds=120)
    assert await receiver.kinds() == []
    (row,) = await receiver.rows("SELECT outcome, detail FROM journal")
    assert row == {"outcome": "unchanged", "detail": "1 resolved without an open episode"}


async def test_a_resolve_of_an_earlier_episode_does_not_close_the_open_one(receiver: Desk) -> None:
    """It ended before this one began."""
    await receiver.notify(group(firing(since=500)), seconds=500)
    await receiver.notify(group(resolved(since=0, until=100)), seconds=510)
    assert await episodes(receiver) == [("VaRLimitExceeded", True)]


async def test_a_truncated_group_closes_nothing(receiver: Desk) -> None:
    """Its status is computed from what is left after the cut (max_alerts)."""
    await receiver.notify(group(firing(portfolio="a"), firing(portfolio="b")))
    await receiver.notify(group(resolved(portfolio="a", until=90), truncatedAlerts=3), seconds=100)
    assert [is_open for _, is_open in await episodes(receiver)] == [True, True]
    assert await receiver.kinds() == ["trigger"]


async def test_a_truncated_group_still_opens(receiver: Desk) -> None:
    """And the message says how many alerts were left out."""
    await receiver.notify(group(firing(), truncatedAlerts=3))
    (message,) = await receiver.messages()
    assert message.truncated == 3


async def test_two_alerts_of_one_identity_in_a_group_fire_while_one_does(receiver: Desk) -> None:
    """Replica a has resolved, replica b has not."""
    await receiver.notify(group(firing(replica="a"), firing(replica="b")))
    await receiver.notify(group(resolved(replica="a", until=90), firing(replica="b")), seconds=100)
    assert await episodes(receiver) == [("VaRLimitExceeded", True)]
    await receiver.notify(group(resolved(replica="a", until=90), resolved(replica="b", until=110)), seconds=120)
    assert await episodes(receiver) == [("VaRLimitExceeded", False)]


async def test_evidence_remembers_whether_anyone_but_the_exporter_saw_it(receiver: Desk) -> None:
    """Direct only, until Alertmanager confirms it; and then for good."""
    steps = [("direct", 1), ("", 0), ("direct", 0)]
    for index, (detector, expected) in enumerate(steps):
        labels = {"detector": detector} if detector else {}
        await receiver.notify(group(firing(**labels), key=f"g{detector}"), seconds=index)
        (row,) = await receiver.rows("SELECT direct_only FROM episodes")
        assert row["direct_only"] == expected


async def test_messages_keep_the_key_of_the_group_the_episode_was_opened_in(receiver: Desk) -> None:
    """Told by the exporter, resolved by Alertmanager: still one thread, so the resolve cannot overtake the trigger."""
    await receiver.notify(group(firing(detector="direct"), key="second-detector:1"))
    await receiver.notify(group(resolved(until=50), key="alertmanager:1"), seconds=60)
    trigger, resolve = await receiver.messages("chat")
    assert trigger.dedup_key == resolve.dedup_key


@pytest.mark.parametrize("name", ["DatasourceNoData", "DatasourceError"])
async def test_no_data_is_not_recovery(receiver: Desk, name: str) -> None:
    """While Grafana has no data for the rule, its alert's resolve waits; it ends when data is back and it does not fire."""
    await receiver.notify(group(firing("Drawdown")))
    await receiver.notify(group(firing(name, rulename="Drawdown"), key="n"), seconds=10)
    await receiver.notify(group(resolved("Drawdown", until=20)), seconds=30)
    assert await episodes(receiver) == [("Drawdown", True), (name, True)]
    await receiver.notify(group(resolved(name, rulename="Drawdown", until=40), key="n"), seconds=45)
    assert await episodes(receiver) == [("Drawdown", False), (name, False)]
    assert [page.episodes[0].name for page in await receiver.messages("pager")] == ["Drawdown", name, name, "Drawdown"]


async def test_no_data_that_ends_leaves_an_alert_open_that_fires_again(receiver: Desk) -> None:
    """Its waiting resolve is void."""
    await receiver.notify(group(firing("Drawdown")))
    await receiver.notify(group(firing("DatasourceNoData", rulename="Drawdown"), key="n"), seconds=10)
    await receiver.notify(group(resolved("Drawdown", until=20)), seconds=30)
    await receiver.notify(group(firing("Drawdown", since=35)), seconds=36)
    await receiver.notify(group(resolved("DatasourceNoData", rulename="Drawdown", until=40), key="n"), seconds=45)
    assert await episodes(receiver) == [("Drawdown", True), ("DatasourceNoData", False)]


async def test_no_data_by_itself_closes_no_other_alert(receiver: Desk) -> None:
    """Resolved or not, it is its own episode."""
    await receiver.notify(group(firing("Drawdown")))
    await receiver.notify(group(resolved("DatasourceNoData", rulename="Drawdown", until=20), key="n"), seconds=30)
    assert await episodes(receiver) == [("Drawdown", True)]


async def test_hundreds_of_alerts_in_one_group_are_one_message(receiver: Desk) -> None:
    """A storm opens each episode once."""
    alerts = [firing(portfolio=str(number)) for number in range(950)]
    await receiver.notify(group(*alerts))
    await receiver.notify(group(*alerts), seconds=5)
    assert len(await episodes(receiver)) == 950
    assert await receiver.kinds("chat") == ["trigger"]


async def test_an_ill_dated_alert_does_no_harm(receiver: Desk) -> None:
    """The end of the calendar, with an offset that has no equivalent in UTC."""
    alert = firing() | {"startsAt": "9999-12-31T23:59:59-05:00"}
    await receiver.notify(group(alert))
    await receiver.notify(group(alert | {"status": "resolved", "endsAt": rfc3339(at(9))}), seconds=10)
    assert len(await episodes(receiver)) == 1


async def test_a_group_is_one_thread_in_the_chat_and_each_alert_its_own_incident(receiver: Desk) -> None:
    """What is said about one alert group shares a key; another group has another; the pager's key is the identity."""
    await receiver.notify(group(firing(portfolio="a")))
    await receiver.notify(group(firing(portfolio="a"), firing(portfolio="b")), seconds=10)
    await receiver.notify(group(firing(portfolio="c"), key="another group"), seconds=20)
    keys = [message.dedup_key for message in await receiver.messages("chat")]
    assert keys[0] == keys[1] != keys[2]
    assert len({message.dedup_key for message in await receiver.messages("pager")}) == 3
