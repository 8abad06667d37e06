"""The exporter goes on with another configuration without a restart: all of it or nothing, and nobody notices the moment."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.flows.exporter.peers import Peer
from tests.flows.exporter.running import (
    Running,
    Series,
    configuration,
    parsed,
    running,
    token,
    trading_database,
    value,
)
from tests.stand_ins import alpaca as stand_in

LIMIT = "desk_limit"
TIGHT = [{"portfolio": "carry", "limit": "concentration", "value": 0.25}]
RULE = {
    "alert": "TooConcentrated",
    "expr": "max by (portfolio, limit) (desk_limit_utilization_ratio) > 1",
    "for": "100ms",
    "labels": {"severity": "critical"},
}


def has_value(series: Series) -> bool:
    """Whether the desk has a value."""
    return value(series, "desk_portfolio_value", portfolio="desk", currency="EUR") is not None


def limit(series: Series) -> float | None:
    """Carry's limit on concentration."""
    return value(series, LIMIT, portfolio="carry", limit="concentration")


def successful(series: Series) -> float | None:
    """Whether the last reload was."""
    return value(series, "deskwatch_config_last_reload_successful")


def rewrite(folder: Path, content: Mapping[str, Any] | str) -> None:
    """Another configuration in place of the first."""
    (folder / "desk.yml").write_text(content if isinstance(content, str) else yaml.safe_dump(dict(content)))


async def reload(exporter: Running, folder: Path) -> httpx.Response:
    """Ask for it."""
    return await exporter.post("/-/reload", **token(folder))


async def test_a_reload_changes_what_the_configuration_says(tmp_path: Path) -> None:
    """And answers what changed; it is a change, so it needs the token. The next reading is there at once."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path, configuration(cycle_seconds=20)) as exporter:
        before = await exporter.until(has_value)
        rewrite(tmp_path, configuration(cycle_seconds=20, limits=TIGHT))
        assert (await exporter.post("/-/reload")).status_code == 401
        assert limit(await exporter.series()) == 1.0
        answer = await reload(exporter, tmp_path)
        assert (answer.status_code, answer.json()) == (
            200,
            {"reloaded": True, "changed": ["exporter.limits"], "at_next_start": []},
        )
        after = await exporter.until(lambda page: limit(page) == 0.25)
    stamp = "deskwatch_config_last_reload_success_timestamp_seconds"
    first, last = value(before, stamp), value(after, stamp)
    assert first is not None
    assert last is not None
    assert first < last <= time.time()
    assert successful(after) == 1


async def test_a_signal_reloads_too(tmp_path: Path) -> None:
    """SIGHUP, as every supervisor sends it; and the process lives on."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path) as exporter:
        await exporter.until(has_value)
        rewrite(tmp_path, configuration(limits=TIGHT))
        exporter.process.send_signal(signal.SIGHUP)
        await exporter.until(lambda page: limit(page) == 0.25)
        code, _ = await exporter.stop()
    assert code == 0
    (line,) = [each for each in exporter.said if each["event"] == "configuration reloaded"]
    assert (line["why"], line["changed"]) == ("SIGHUP", ["exporter.limits"])


async def test_a_faulty_configuration_changes_nothing(tmp_path: Path) -> None:
    """Every fault is answered and logged, the old one stays, and a metric says so until it is corrected."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path) as exporter:
        await exporter.until(has_value)
        broken = configuration(limits=[*TIGHT, {"portfolio": "nobody", "limit": "luck", "value": -1}], cycle_seconds=0)
        broken["exporter"]["sources"][0]["url"] = "sqlite:///s3cr3t?mode=x"
        rewrite(tmp_path, broken)
        answer = await reload(exporter, tmp_path)
        assert answer.status_code == 500
        faults = [fault.partition(":")[0] for fault in answer.json()["faults"]]
        assert {"exporter.limits[1].limit", "exporter.limits[1].value", "exporter.cycle_seconds"} <= set(faults)
        assert answer.json()["reloaded"] is False
        assert "s3cr3t" not in answer.text
        series = await exporter.until(lambda page: successful(page) == 0)
        assert limit(series) == 1.0
        assert has_value(series)
        rewrite(tmp_path, "exporter: [")
        assert (
            (await reload(exporter, tmp_path))
            .json()["faults"][0]
            .endswith("expected the node content, but found '<stream end>'")
        )
        rewrite(tmp_path, configuration(limits=TIGHT))
        assert (await reload(exporter, tmp_path)).status_code == 200
        await exporter.until(lambda page: successful(page) == 1 and limit(page) == 0.25)
    (first, *_) = [each for each in exporter.said if "was not reloaded" in each["event"]]
    assert len(first["faults"]) >= 3
    assert first["level"] == "error"


async def test_what_cannot_change_is_named_and_the_rest_changes(tmp_path: Path) -> None:
    """The address and the state folder, at every reload until the process is started again."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path) as exporter:
        await exporter.until(has_value)
        rewrite(tmp_path, configuration(web={"listen": "127.0.0.1:1"}, state_folder="elsewhere", limits=TIGHT))
        for _ in range(2):
            answer = (await reload(exporter, tmp_path)).json()
            assert answer["at_next_start"] == ["exporter.web.listen", "exporter.state_folder"]
        await exporter.until(lambda page: limit(page) == 0.25)
        assert not (tmp_path / "elsewhere").exists()


async def test_sources_and_portfolios_come_and_go_and_the_others_go_on(tmp_path: Path) -> None:
    """A source that is configured as before is not even fetched anew."""
    trading_database(tmp_path / "trading.db").close()
    moved = ("DELETE FROM accounts WHERE portfolio = 'momentum'", "UPDATE positions SET portfolio = 'new'")
    trading_database(tmp_path / "other.db", *moved, "UPDATE accounts SET portfolio = 'new'").close()
    first = configuration()
    more = configuration()
    more["exporter"]["sources"].append({**more["exporter"]["sources"][0], "name": "more", "url": "sqlite:///other.db"})
    more["exporter"]["portfolios"].append({"name": "new", "base_currency": "EUR"})
    async with running(tmp_path, first) as exporter:
        before = await exporter.until(has_value)
        rewrite(tmp_path, more)
        assert (await reload(exporter, tmp_path)).json()["changed"] == ["exporter.sources", "exporter.portfolios"]
        grown = await exporter.until(
            lambda page: (
                value(page, "desk_source_up", source="more", kind="database") == 1
                and value(page, "desk_position_value", portfolio="new", symbol="CHF", currency="EUR") is not None
            )
        )
        for name in ("trades", "rates"):
            was = value(before, "desk_source_last_success_timestamp_seconds", source=name)
            assert was is not None
            assert (value(grown, "desk_source_last_success_timestamp_seconds", source=name) or 0) >= was
        assert value(grown, "desk_source_fetches_total", source="rates") == 1
        rewrite(tmp_path, first)
        await reload(exporter, tmp_path)
        shrunk = await exporter.until(lambda page: value(page, "desk_source_up", source="more", kind="database") is None)
        assert not [labels for _, labels in shrunk if ("portfolio", "new") in labels or ("source", "more") in labels]


async def test_no_request_and_no_cycle_fails_while_it_reloads(tmp_path: Path) -> None:
    """Every page is whole: it has the desk's value, under one configuration or the other. Reloads at once are one by one."""
    trading_database(tmp_path / "trading.db").close()
    done, pages = asyncio.Event(), list[Series]()

    async with running(tmp_path) as exporter:
        await exporter.until(has_value)

        async def scrape_on() -> None:
            while not done.is_set():
                pages.append(await exporter.series())

        scraping = [asyncio.ensure_future(scrape_on()) for _ in range(3)]
        answers = []
        for turn in range(8):
            rewrite(tmp_path, configuration(limits=TIGHT if turn % 2 else [], cycle_seconds=0.05 + 0.05 * (turn % 2)))
            answers += await asyncio.gather(*(reload(exporter, tmp_path) for _ in range(3)))
        done.set()
        await asyncio.gather(*scraping)
        failures = value(await exporter.series(), "deskwatch_cycle_failures_total")
        code, _ = await exporter.stop()
    assert [answer.status_code for answer in answers] == [200] * 24
    assert sum(answer.json()["changed"] == [] for answer in answers) == 16
    assert len(pages) > 20
    assert all(has_value(page) for page in pages)
    assert {limit(page) for page in pages} == {None, 0.25, 1.0}
    assert (failures, code) == (0, 0)
    assert {each["level"] for each in exporter.said if "second detector" not in each["event"]} == {"info"}


async def test_tokens_rotate_without_a_restart(tmp_path: Path) -> None:
    """Of changing and of reading, given by file; the old one is accepted as long as it is named."""
    trading_database(tmp_path / "trading.db").close()
    for name, text in (("token", "one"), ("reader", "r1")):
        (tmp_path / name).write_text(text)
    web = {"listen": "127.0.0.1:0", "token_file": "token", "read_token_file": "reader"}

    async def statuses(*tokens: str) -> list[int]:
        found = [await exporter.get("/", Authorization=f"Bearer {each}") for each in tokens]
        return [answer.status_code for answer in found]

    async with running(tmp_path, configuration(web=web)) as exporter:
        assert await statuses("one", "r1", "r2") == [200, 200, 401]
        (tmp_path / "token").write_text("two")
        (tmp_path / "reader").write_text("r2")
        rewrite(tmp_path, configuration(web=web | {"previous_token": "one"}))
        assert (await exporter.post("/-/reload", Authorization="Bearer two")).status_code == 401
        assert (await exporter.post("/-/reload", Authorization="Bearer one")).status_code == 200
        assert await statuses("one", "two", "r1", "r2") == [200, 200, 401, 200]
        rewrite(tmp_path, configuration(web=web))
        assert (await exporter.post("/-/reload", Authorization="Bearer one")).status_code == 200
        assert (await exporter.post("/-/reload", Authorization="Bearer one")).status_code == 401
        assert (await exporter.post("/-/reload", Authorization="Bearer two")).status_code == 200


async def test_a_watched_file_is_read_when_it_changes_and_half_of_it_is_not(tmp_path: Path) -> None:
    """The configuration and the files secrets stand in; half a file is tried again until it is whole, and logged once."""
    trading_database(tmp_path / "trading.db").close()
    (tmp_path / "reader").write_text("r1")
    watched = {"reload": {"watch": True, "watch_seconds": 0.05}, "web": {"listen": "127.0.0.1:0", "read_token_file": "reader"}}
    whole = yaml.safe_dump(configuration(limits=TIGHT, **watched))

    async def read(key: str) -> httpx.Response:
        return await exporter.get("/debug/undefined", Authorization=f"Bearer {key}")

    async def until_status(key: str, status: int) -> None:
        async with asyncio.timeout(20):
            while (await read(key)).status_code != status:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)

    def refused() -> int:
        return sum("was not reloaded" in each["event"] for each in exporter.said)

    async with running(tmp_path, configuration(**watched)) as exporter:
        await until_status("r1", 200)
        (tmp_path / "reader").write_text("")
        async with asyncio.timeout(20):
            while not refused():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        assert (await read("r1")).status_code == 200
        (tmp_path / "reader").write_text("r2")
        await until_status("r2", 200)
        assert (await read("r1")).status_code == 401
        rewrite(tmp_path, whole[: whole.index("portfolios")])
        async with asyncio.timeout(20):
            while refused() < 2:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # several looks
        assert refused() == 2
        assert (await read("r2")).status_code == 200
        rewrite(tmp_path, whole)
        async with asyncio.timeout(20):
            while limit(parsed((await exporter.get(Authorization="Bearer r2")).text)) != 0.25:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert {each["why"] for each in exporter.said if each["event"] == "configuration reloaded"} == {"a file changed"}


async def test_a_venues_credentials_rotate_and_its_numbers_never_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old key is refused until its breaker opens; the new one in the file is used at once, and what was read stays good."""
    (tmp_path / "secret").write_text(stand_in.SECRET_KEY)
    pages: list[Series] = []

    def noted(holds: Callable[[Series], object]) -> Callable[[Series], object]:
        def look(page: Series) -> object:
            pages.append(page)
            return holds(page)

        return look

    async with stand_in.Alpaca() as venue:
        source = {
            "type": "alpaca", "name": "alpaca", "key_id": stand_in.KEY_ID, "secret_key_file": "secret", "read": ["accounts"],
            "trading_url": venue.url, "data_url": venue.url, "interval_seconds": 0.2, "stale_after_seconds": 120,
            "breaker": {"failures": 2, "open_seconds": 600},
        }  # fmt: skip
        content = configuration(
            sources=[source], portfolios=[{"name": "alpaca", "base_currency": "USD"}], limits=[],
            reload={"watch": True, "watch_seconds": 0.05},
        )  # fmt: skip
        async with running(tmp_path, content) as exporter:
            first = await exporter.until(lambda page: worth(page) is not None)
            monkeypatch.setattr(stand_in, "SECRET_KEY", "another-secret-00000000000000000")
            await exporter.until(noted(lambda page: value(page, "desk_source_breaker_open", source="alpaca") == 1))
            (tmp_path / "secret").write_text(stand_in.SECRET_KEY)
            last = await exporter.until(noted(lambda page: value(page, "desk_source_up", source="alpaca", kind="broker") == 1))
    assert {worth(page) for page in pages} == {worth(first)}
    refused = value(last, "desk_source_fetch_failures_total", source="alpaca", reason="auth")
    assert (refused or 0) >= 2
    assert "secret-0000" not in str(exporter.said)


def worth(page: Series) -> float | None:
    """The account's value."""
    return value(page, "desk_portfolio_value", portfolio="alpaca", currency="USD")


async def test_without_the_watch_a_changed_file_means_nothing(tmp_path: Path) -> None:
    """Until somebody asks: an operator may edit in peace. A reload turns the watch on."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path) as exporter:
        await exporter.until(has_value)
        rewrite(tmp_path, configuration(limits=TIGHT, reload={"watch": True, "watch_seconds": 0.05}))
        cycles = await exporter.series()
        stamp = value(cycles, "desk_cycle_timestamp_seconds") or 0
        await exporter.until(lambda page: (value(page, "desk_cycle_timestamp_seconds") or 0) > stamp + 1)
        assert limit(await exporter.series()) == 1.0
        assert (await reload(exporter, tmp_path)).status_code == 200
        rewrite(tmp_path, configuration(limits=[], reload={"watch": False}))
        await exporter.until(lambda page: limit(page) is None)
    assert [each["why"] for each in exporter.said if each["event"] == "configuration reloaded"] == [
        "POST /-/reload", "a file changed",
    ]  # fmt: skip


def breaching(alertmanagers: list[Mapping[str, Any]], receiver: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A desk over a limit."""
    detector = {"rules": ["own.rules.yml"], "repost_seconds": 0.2, "alertmanagers": alertmanagers, "receiver": receiver}
    return configuration(limits=TIGHT, detector=detector | more)


async def test_a_breach_goes_on_across_reloads(tmp_path: Path) -> None:
    """Same start, same labels, no end, nothing told twice; not even while the rule's `for`, an address or a token changes."""
    trades = trading_database(tmp_path / "trading.db")
    rules = tmp_path / "own.rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [RULE]}]}))
    async with Peer() as alertmanager, Peer() as second, Peer() as receiver:
        to = {"base_url": receiver.url}
        alertmanager.status = 503
        async with running(tmp_path, breaching([{"base_url": alertmanager.url}], to)) as exporter:
            told = await receiver.next()
            assert told["status"] == "firing"
            alertmanager.status = 200
            (first,) = await alertmanager.next()
            rules.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [RULE | {"for": "1h"}]}]}))
            rotated = [{"base_url": alertmanager.url, "authorization": "n3w"}, {"base_url": second.url}]
            rewrite(tmp_path, breaching(rotated, to | {"token": "n3w"}))
            for _ in range(3):
                assert (await reload(exporter, tmp_path)).status_code == 200
            (there,) = await second.next()
            again = first
            while alertmanager.authorization != "Bearer n3w":
                (again,) = await alertmanager.next()
            assert [each["startsAt"] for each in (again, there)] == [first["startsAt"]] * 2
            assert receiver.received.empty()
            counts = await exporter.series()
            target = alertmanager.url.partition("://")[2]
            assert (value(counts, "deskwatch_detector_posts_total", target=target, outcome="server_error") or 0) >= 1
            trades.execute("UPDATE positions SET quantity = '-100' WHERE symbol = 'CHF'")
            trades.execute("UPDATE positions SET quantity = '100' WHERE symbol = 'USD'")
            ended = await receiver.next()
            assert (ended["status"], ended["alerts"][0]["startsAt"]) == ("resolved", told["alerts"][0]["startsAt"])
            assert receiver.authorization == "Bearer n3w"
            assert receiver.received.empty()
    trades.close()


async def test_a_receiver_can_be_added_and_taken_away(tmp_path: Path) -> None:
    """Its spool is opened then; an exporter that had none is told so, and tells."""
    trading_database(tmp_path / "trading.db").close()
    (tmp_path / "own.rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [RULE]}]}))
    async with Peer() as receiver:
        alone = configuration(limits=TIGHT, detector={"rules": ["own.rules.yml"]})
        async with running(tmp_path, alone) as exporter:
            await exporter.until(has_value)
            rewrite(tmp_path, breaching([], {"base_url": receiver.url}))
            assert (await reload(exporter, tmp_path)).json()["changed"] == ["exporter.detector"]
            assert (await receiver.next())["status"] == "firing"
            rewrite(tmp_path, alone)
            assert (await reload(exporter, tmp_path)).status_code == 200
            name = receiver.url.partition("://")[2]
            page = await exporter.until(
                lambda page: value(page, "deskwatch_detector_posts_total", target=name, outcome="ok") is None
            )
            assert has_value(page)
            code, _ = await exporter.stop()
    assert code == 0


@pytest.mark.parametrize("level", ["debug", "error"])
async def test_the_log_level_changes(tmp_path: Path, level: str) -> None:
    """From the reload on."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path) as exporter:
        await exporter.until(has_value)
        rewrite(tmp_path, configuration() | {"logs": {"format": "json", "level": level}})
        assert (await reload(exporter, tmp_path)).json()["changed"] == ["logs.level"]
        assert (await reload(exporter, tmp_path)).json()["changed"] == []
    said = [each for each in exporter.said if each["event"] == "configuration reloaded"]
    assert len(said) == (2 if level == "debug" else 0)
