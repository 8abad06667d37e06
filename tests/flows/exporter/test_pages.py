"""The exporter's pages for people: the state of every source, and what one delivered, without using up its rate limit."""

from __future__ import annotations

import asyncio
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from tests.flows.exporter.running import Running, configuration, running, token, trading_database, value


def rows(page: str) -> dict[str, dict[str, str]]:
    """The table of sources: source to column to text."""
    found = {}
    for row in re.findall(r"<tr>\s*<td[^>]*data-label=\"Source\".*?</tr>", page, flags=re.S):
        cells = re.findall(r'<td[^>]*data-label="([^"]+)">(.*?)</td>', row, flags=re.S)
        plain = {name: " ".join(unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for name, cell in cells}
        found[plain["Source"].split()[0]] = plain
    return found


async def ask(exporter: Running, folder: Path, method: str, query: str) -> Any:
    """`/debug/source`."""
    path = f"/debug/source?{query}"
    answer = await (exporter.get(path) if method == "GET" else exporter.post(path, **token(folder)))
    return answer.json()


async def test_the_landing_page_shows_every_source_as_it_is(tmp_path: Path) -> None:
    """Several accounts of one venue are several rows: up, failing, stale, left alone, never read."""
    for name in ("trading.db", "second.db"):
        trading_database(tmp_path / name).close()
    content = configuration()
    first = content["exporter"]["sources"][0]
    content["exporter"]["sources"] += [
        {**first, "name": "account-2", "url": "sqlite:///second.db", "breaker": {"failures": 1000}},
        {**first, "name": "account-3", "url": "sqlite:///third.db", "breaker": {"failures": 2, "open_seconds": 600}},
    ]
    async with running(tmp_path, content) as exporter:
        await exporter.until(lambda page: value(page, "desk_source_up", source="account-2", kind="database") == 1)
        (tmp_path / "second.db").unlink()
        await exporter.until(lambda page: value(page, "desk_source_breaker_open", source="account-3") == 1)
        async with asyncio.timeout(20):
            while rows((answer := await exporter.get("/")).text)["account-2"]["State"] != "stale":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    found = rows(answer.text)
    assert list(found) == ["trades", "rates", "account-2", "account-3"]
    assert {name: each["State"] for name, each in found.items()} == {
        "trades": "up", "rates": "up", "account-2": "stale", "account-3": "never read breaker open",
    }  # fmt: skip
    assert found["rates"]["Market time"] == "2015-01-14 14:15"
    assert re.fullmatch(r"\d+ s stale after 4 h", found["rates"]["Age"])
    assert re.fullmatch(r"in (5[89] min.*|1 h.*)", found["rates"]["Next fetch"])
    assert re.fullmatch(r"in (9 min \d+ s|10 min)", found["account-3"]["Next fetch"])
    assert found["account-3"]["Fetches"] == "2 2 failed"
    assert re.fullmatch(r".*the file does not exist.* \d+ s ago", found["account-3"]["Last error"])
    assert found["trades"]["Last error"] == "–"


async def test_reading_what_a_source_delivered_asks_it_nothing(tmp_path: Path) -> None:
    """Whoever may read must not be able to use up the trader's rate limit. A fetch needs the token."""
    trading_database(tmp_path / "trading.db").close()
    content = configuration()
    content["exporter"]["sources"][0] |= {"interval_seconds": 3000, "stale_after_seconds": 3000}
    async with running(tmp_path, content) as exporter:
        await exporter.until(lambda page: value(page, "desk_source_up", source="trades", kind="database") == 1)
        for _ in range(3):
            shown = await ask(exporter, tmp_path, "GET", "name=trades")
        assert (shown["fetches"], shown["succeeded"], shown["state"]) == (1, True, "up")
        assert (shown["records"]["positions"], shown["records"]["accounts"]) == (3, 2)
        assert shown["sample"]["positions"][0]["quantity"] == "-1000000"
        assert "log" not in shown
        refused = await exporter.post("/debug/source?name=trades")
        assert refused.status_code == 401
        fetched = await ask(exporter, tmp_path, "POST", "name=trades&records=1")
        assert (fetched["fetches"], fetched["succeeded"], fetched["log"]) == (2, True, [])
        assert len(fetched["sample"]["positions"]) == 1
        assert fetched["next_fetch_in_seconds"] > 2000


async def test_a_fetch_for_debugging_shows_why_it_fails(tmp_path: Path) -> None:
    """Also while the breaker is open; with its log lines, and without the password a driver may repeat."""
    trading_database(tmp_path / "trading.db").close()
    content = configuration()
    url = "postgresql+asyncpg://desk:s3cr3t-word@127.0.0.1:9/s3cr3t-word"
    content["exporter"]["sources"][0] |= {"interval_seconds": 3000, "stale_after_seconds": 3000}
    far = {"type": "database", "name": "far", "url": url, "breaker": {"failures": 1, "open_seconds": 600}}
    content["exporter"]["sources"].append(far)
    async with running(tmp_path, content) as exporter:
        await exporter.until(lambda page: value(page, "desk_source_breaker_open", source="far") == 1)
        shown = await ask(exporter, tmp_path, "POST", "name=far")
        landing = (await exporter.get("/")).text
        (tmp_path / "trading.db").rename(tmp_path / "gone.db")
        gone = await ask(exporter, tmp_path, "POST", "name=trades")
    assert (shown["succeeded"], shown["state"], shown["fetches"]) == (False, "never read", 2)
    assert shown["failures"] == {"refused": 2}
    assert shown["breaker"]["state"] == "open"
    assert "127.0.0.1" in shown["error"]
    for text in (json.dumps(shown), landing):
        assert "s3cr3t-word" not in text
        assert "***" in text
    (line,) = gone["log"]
    assert (line["event"], line["reason"], line["source"]) == ("source failed", "not_found", "trades")
    assert line["correlation_id"].startswith("fetch-trades-")
    assert gone["records"]["positions"] == 3


async def test_what_cannot_be_shown_is_a_clear_error(tmp_path: Path) -> None:
    """An unknown source names those there are; a number of records out of bounds says which are allowed."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path) as exporter:
        for path, status, said in (
            ("name=no", 404, "name: no source is called 'no'; there are: trades, rates"),
            ("name=trades&records=1001", 422, "records: must be a whole number from 0 to 1000, was '1001'"),
            ("name=trades&records=-1", 422, "records: must be a whole number from 0 to 1000, was '-1'"),
            ("name=trades&records=%C2%B2", 422, "records: must be a whole number from 0 to 1000, was '²'"),
        ):
            for answer in (
                await exporter.get(f"/debug/source?{path}"),
                await exporter.post(f"/debug/source?{path}", **token(tmp_path)),
            ):
                assert (answer.status_code, answer.json()["error"]) == (status, said)
