"""An exporter reading another Prometheus: its series and a book made of them arrive, each failure is named, it comes back."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from deskwatch.clock import SystemClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.source import Kept
from exporter.sources.prometheus import Config, PrometheusSource
from tests.flows.exporter.running import Series, configuration, running, value
from tests.stand_ins.prometheus import MIMIR_TOO_MANY, QUERY, TIMED_OUT, Prometheus
from tests.stand_ins.server import DROP, HANG, HTML, Answer
from tests.stand_ins.venue import CUT_SHORT, EMPTY, FORBIDDEN, TOO_MANY, TRUNCATED, UNAUTHORIZED, UNAVAILABLE

PNL = {"name": "desk_external_pnl_usd", "expr": "pnl", "help": "Profit of the strategy, USD", "labels": ["strategy"]}
POSITIONS = {"expr": "pos", "constants": {"portfolio": "carry", "currency": "EUR"}, "rename": {"asset": "symbol"}}


@pytest.fixture
async def server() -> AsyncIterator[Prometheus]:
    """A server with a series and a book."""
    async with Prometheus(token="s3cret") as found:
        found.vectors = {
            "pnl": [({"__name__": "pnl", "strategy": "trend", "instance": "a:1"}, "12.5"), ({"strategy": "new"}, "NaN")],
            "pos": [({"asset": "BTC"}, "2"), ({"asset": "ETH"}, "-10")],
            "mark": [({"symbol": "BTC", "currency": "EUR"}, "90000"), ({"symbol": "ETH", "currency": "EUR"}, "3000")],
            "cash": [({"portfolio": "carry", "currency": "EUR"}, "50000")],
        }
        yield found


def source_of(url: str, **changes: Any) -> dict[str, Any]:
    """The source's configuration."""
    return {
        "type": "prometheus", "name": "other", "base_url": url, "token": "s3cret", "queries": [PNL],
        "interval_seconds": 0.1, "timeout_seconds": 0.5, "stale_after_seconds": 1,
        "records": {"positions": POSITIONS, "prices": {"expr": "mark"}, "accounts": {"expr": "cash"}},
    } | changes  # fmt: skip


def desk_of(server: Prometheus) -> dict[str, Any]:
    """An exporter with this source alone."""
    portfolios = [{"name": "carry", "base_currency": "EUR"}]
    return configuration(sources=[source_of(server.url)], portfolios=portfolios, limits=[])


def worth(series: Series) -> float | None:
    """What the portfolio is worth."""
    return value(series, "desk_portfolio_value", portfolio="carry", currency="EUR")


def pnl(series: Series) -> float | None:
    """The series passed on."""
    return value(series, "desk_external_pnl_usd", source="other", strategy="trend")


async def test_its_series_and_the_book_made_from_them_are_exported(tmp_path: Path, server: Prometheus) -> None:
    """Exact values; a changed series is a changed gauge; what is NaN there is absent here and counted."""
    async with running(tmp_path, desk_of(server)) as exporter:
        series = await exporter.until(lambda page: worth(page) is not None)
        assert worth(series) == 2 * 90000 - 10 * 3000 + 50000
        assert pnl(series) == 12.5
        assert value(series, "desk_external_pnl_usd", source="other", strategy="new") is None
        assert (value(series, "desk_records_rejected_total", source="other", reason="not_finite") or 0) >= 1
        server.vectors["pnl"] = [({"strategy": "trend"}, "-3")]
        await exporter.until(lambda page: pnl(page) == -3)
        text = (await exporter.get()).text
        assert "# HELP desk_external_pnl_usd Profit of the strategy, USD\n# TYPE desk_external_pnl_usd gauge\n" in text


async def test_when_it_fails_everything_from_it_goes_and_comes_back(tmp_path: Path, server: Prometheus) -> None:
    """No last number for ever; the reason is counted."""
    async with running(tmp_path, desk_of(server)) as exporter:
        await exporter.until(lambda page: pnl(page) == 12.5 and worth(page) is not None)
        server.fault(QUERY, UNAVAILABLE, always=True)
        series = await exporter.until(lambda page: pnl(page) is None and worth(page) is None)
        assert (value(series, "desk_source_fetch_failures_total", source="other", reason="server_error") or 0) >= 1
        assert value(series, "desk_source_up", source="other", kind="infrastructure") == 0
        assert value(series, "desk_analytic_undefined", analytic="observed", reason="input_stale") == 1
        server.heal()
        await exporter.until(lambda page: pnl(page) == 12.5 and worth(page) is not None)
        assert "s3cret" not in str(exporter.said)


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (TOO_MANY, Retryable, Reason.RATE_LIMITED),
        (MIMIR_TOO_MANY, Retryable, Reason.RATE_LIMITED),
        (TIMED_OUT, Retryable, Reason.TIMEOUT),
        (HANG, Retryable, Reason.TIMEOUT),
        (DROP, Retryable, Reason.NETWORK),
        (CUT_SHORT, Retryable, Reason.NETWORK),
        (HTML, Retryable, Reason.BAD_RESPONSE),
        (TRUNCATED, Retryable, Reason.BAD_RESPONSE),
        (EMPTY, Retryable, Reason.BAD_RESPONSE),
        (UNAVAILABLE, Retryable, Reason.SERVER_ERROR),
        (UNAUTHORIZED, Permanent, Reason.AUTH),
        (FORBIDDEN, Permanent, Reason.AUTH),
        (Answer(302, headers={"Location": "http://127.0.0.1:1/"}), Permanent, Reason.REJECTED),
    ],
)
async def test_each_failure_on_the_wire_has_its_reason_and_the_next_fetch_is_good(
    server: Prometheus, fault: Answer, kind: type[Exception], reason: Reason
) -> None:
    """The message names the query; nothing of the failure stays."""
    source = made(source_of(server.url, http={"timeout_seconds": 0.3}, records={}))
    server.fault(QUERY, fault)
    with pytest.raises(kind, match=r"^queries\.desk_external_pnl_usd: ") as caught:
        await source.fetch(Kept())
    assert caught.value.reason is reason  # type: ignore[attr-defined]
    if fault is MIMIR_TOO_MANY:
        assert caught.value.retry_after_seconds == 1  # type: ignore[attr-defined]
    assert len((await source.fetch(Kept())).measures) == 1
    await source.close()


@pytest.mark.parametrize(("url", "reason"), [("http://127.0.0.1:1", Reason.REFUSED), ("http://nowhere.invalid", Reason.DNS)])
async def test_a_server_that_is_not_there(url: str, reason: Reason) -> None:
    """Refused is not a name that does not resolve."""
    source = made(source_of(url))
    with pytest.raises(Retryable) as caught:
        await source.fetch(Kept())
    assert caught.value.reason is reason
    await source.close()


async def test_a_certificate_nobody_signed_is_refused_and_a_named_authority_is_believed(tmp_path: Path) -> None:
    """`http.ca_file`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    body = b'{"status": "success", "data": {"resultType": "vector", "result": []}}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listening:
        url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        source = made(source_of(url, records={}))
        with pytest.raises(Retryable) as caught:
            await source.fetch(Kept())
        assert caught.value.reason is Reason.TLS
        await source.close()
        source = made(source_of(url, records={}, http={"ca_file": str(tmp_path / "ca.pem")}))
        assert (await source.fetch(Kept())).measures == ()
        await source.close()


async def test_a_fetch_can_be_cancelled_and_the_next_one_works(server: Prometheus) -> None:
    """What the poller does at the deadline."""
    source = made(source_of(server.url))
    server.fault(QUERY, HANG, always=True)
    fetching = asyncio.ensure_future(source.fetch(Kept()))
    await server.got(4)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    server.heal()
    assert len((await source.fetch(Kept())).positions) == 2
    await source.close()


def made(content: dict[str, Any]) -> PrometheusSource:
    """The source."""
    config = validate(Config, content)
    assert isinstance(config, Config), config
    return PrometheusSource(config, SystemClock())
