"""Servers that tests of the stack share: started by the first that asks, gone after the last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.components import find
from tests.stack.databases import MariaDb, Postgres, Server


def _running(make: type[Server]) -> Iterator[Server]:
    for program in make.programs:
        find(program)  # skips before anything is made
    server = make()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server."""
    yield from _running(Postgres)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB server."""
    yield from _running(MariaDb)


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of them in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found
