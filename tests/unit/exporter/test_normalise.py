"""Names: each source's symbols become the desk's, in every kind of record, and unchanged objects stay the same objects."""

from __future__ import annotations

from decimal import Decimal

from exporter.desk import Feed
from exporter.normalise import NAMED, Normaliser
from exporter.snapshot import Alias, InstrumentTerms, Order, Quote, Signal, Snapshot
from exporter.source import SourceConfig
from tests.unit.exporter.desks import NOW, fill, history, position, price

EVERYTHING = Snapshot(
    NOW,
    instruments=(InstrumentTerms("BTCUSDT", "USDT"),),
    positions=(position("BTCUSDT", 1), position("ETHUSDT", 2)),
    prices=(price("BTCUSDT", 3),),
    quotes=(Quote("BTCUSDT", "USDT", "venue", NOW, Decimal(1), Decimal(2)),),
    histories=(history("BTCUSDT", [1, 2]), history("ETHUSDT", [3, 4])),
    fills=(fill("BTCUSDT", 1, 1),),
    orders=(Order("1", "carry", "BTCUSDT", "BUY", Decimal(1), Decimal(0), "NEW", NOW),),
    signals=(Signal("1", "trend", "carry", "BTCUSDT", Decimal(1), NOW),),
)


def venue(snapshot: Snapshot | None = EVERYTHING, source: str = "main", **more: object) -> Feed:
    """A venue's feed."""
    return Feed(source, "exchange", frozenset(NAMED), snapshot, stale=False, **more)  # type: ignore[arg-type]


def table(*aliases: Alias, read: bool = True) -> Feed:
    """A database with the desk's names."""
    return Feed("names", "database", frozenset({"aliases"}), Snapshot(NOW, aliases=aliases) if read else None, stale=False)


def normaliser(**renames: dict[str, str]) -> Normaliser:
    """For sources with these `rename`s."""
    return Normaliser([SourceConfig(type="any", name=name, rename=rename) for name, rename in renames.items()])


def symbols(feed: Feed) -> set[str]:
    """Every symbol of every record."""
    assert feed.snapshot is not None
    return {record.symbol for kind in NAMED for record in getattr(feed.snapshot, kind)}


def test_configuration_renames_every_kind_of_record() -> None:
    """A position under one name and its price under another would be worth nothing."""
    (feed,) = normaliser(main={"BTCUSDT": "BTC-PERP"}).normalise([venue()])
    assert symbols(feed) == {"BTC-PERP", "ETHUSDT"}
    assert all(len(getattr(feed.snapshot, kind)) == len(getattr(EVERYTHING, kind)) for kind in NAMED)


def test_the_desks_own_table_renames_and_configuration_wins() -> None:
    """Each for its own source only."""
    names = table(Alias("main", "BTCUSDT", "XBT"), Alias("main", "ETHUSDT", "XET"), Alias("other", "BTCUSDT", "NO"))
    feeds = normaliser(main={"BTCUSDT": "BTC-PERP"}, other={}, names={}).normalise([venue(), names])
    assert symbols(feeds[0]) == {"BTC-PERP", "XET"}


def test_a_feed_without_names_is_the_same_object() -> None:
    """Nothing is copied for nothing."""
    feed = venue()
    assert normaliser(main={}).normalise([feed]) == (feed,)
    assert normaliser(main={}).normalise([feed])[0] is feed


def test_what_did_not_change_is_renamed_once() -> None:
    """Histories are compared by identity when they are aligned: a new snapshot with the same history changes nothing."""
    names = normaliser(main={"BTCUSDT": "BTC"})
    kept = (history("BTCUSDT", [1, 2]),)
    first = names.normalise([venue(kept=kept)])[0]
    again = names.normalise([venue(Snapshot(NOW), kept=kept)])[0]
    assert first.kept is not None
    assert again.kept is not None
    assert first.kept[0].symbol == "BTC"
    assert again.kept[0] is first.kept[0]
    assert names.normalise([venue()])[0].snapshot is names.normalise([venue()])[0].snapshot


def test_changed_names_apply_at_once() -> None:
    """The table is read each time."""
    names = normaliser(main={}, names={})
    one = names.normalise([venue(), table(Alias("main", "BTCUSDT", "A"))])[0]
    other = names.normalise([venue(), table(Alias("main", "BTCUSDT", "B"))])[0]
    assert "A" in symbols(one)
    assert "B" in symbols(other)
    assert "A" not in symbols(other)


def test_before_the_table_of_names_is_read_nothing_has_been_heard() -> None:
    """A symbol under two names would be two positions: half the concentration."""
    feeds = normaliser(main={}, names={}).normalise([venue(kept=(history("X", [1]),)), table(read=False)])
    assert feeds[0].snapshot is None
    assert feeds[0].kept is None


def test_what_a_source_priced_before_is_renamed_too() -> None:
    """After a restart it is the desk's name that is late."""
    (feed,) = normaliser(main={"BTCUSDT": "BTC"}).normalise([venue(None, before=frozenset({"BTCUSDT", "ETHUSDT"}))])
    assert feed.before == {"BTC", "ETHUSDT"}
