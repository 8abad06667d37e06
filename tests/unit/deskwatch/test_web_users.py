"""Users of the web configuration file: who may read, that no user may change, and what a password costs."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from structlog.testing import capture_logs

from deskwatch import basic_auth
from deskwatch.basic_auth import TooManyGuesses, Users
from tests.unit.deskwatch.web_servers import TOKEN, chassis, write_file


def hashed(password: str, cost: int = 4) -> str:
    """As `htpasswd -nBC` writes it."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode().replace("$2b$", "$2y$")


HASHES = {"ann": hashed("s3cr3t"), "bob": hashed("pa:ss wörd")}


class Counted:
    """bcrypt, counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checks: list[bytes] = []
        self.most_at_once = self._at_once = 0
        self._check = bcrypt.checkpw
        monkeypatch.setattr(basic_auth.bcrypt, "checkpw", self)

    def __call__(self, password: bytes, hashed_password: bytes) -> bool:
        """As bcrypt does."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self.checks.append(hashed_password)
        try:
            return self._check(password, hashed_password)
        finally:
            self._at_once -= 1


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401), (("ann", "s3cr3t"), 200), (("bob", "pa:ss wörd"), 200), (("ann", "S3cr3t"), 401),
        (("ann", ""), 401), (("", ""), 401), (("eve", "s3cr3t"), 401), (("bob", "s3cr3t"), 401),
    ],
)  # fmt: skip
async def test_reading_needs_a_user_and_the_right_password(tmp_path: Path, given: Any, status: int) -> None:
    """Otherwise 401 and the challenge a browser and Prometheus understand."""
    write_file(tmp_path, basic_auth_users=HASHES)
    async with chassis(tmp_path) as served:
        header = f"Basic {base64.b64encode(':'.join(given).encode()).decode()}" if given else ""
        answer = await served.ask(headers={"Authorization": header} if given else {})
        assert answer.status_code == status
        challenge = answer.headers.get("WWW-Authenticate")
        assert challenge == (None if status == 200 else 'Basic realm="deskwatch", charset="UTF-8"')
        assert (await served.ask(path="/-/healthy")).status_code == 200


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic YW5u", "Basic /w==", "Bearer ann:s3cr3t", "Digest a", "\xff"])
async def test_a_header_that_is_none_is_refused(tmp_path: Path, header: str) -> None:
    """401, not an error of ours."""
    write_file(tmp_path, basic_auth_users=HASHES)
    async with chassis(tmp_path) as served:
        answer = await served.ask(headers=[(b"Authorization", header.encode("latin-1"))])
    assert answer.status_code == 401


async def test_a_user_may_read_and_never_change(tmp_path: Path) -> None:
    """The token may both; so may the read token read, where one is set beside the users."""
    write_file(tmp_path, basic_auth_users=HASHES)
    async with chassis(tmp_path, read_token="readme") as served:
        asked = {
            (method, path, who): (await served.ask(method, path, headers=headers, auth=auth)).status_code
            for who, headers, auth in (
                ("user", {}, ("ann", "s3cr3t")),
                ("token as password", {}, ("ann", TOKEN)),
                ("token", {"Authorization": f"Bearer {TOKEN}"}, None),
                ("read token", {"Authorization": "Bearer readme"}, None),
            )
            for method, path in (("GET", "/book"), ("POST", "/reload"))
        }
        refused = await served.ask("POST", "/reload", auth=("ann", "s3cr3t"))
    assert asked == {
        ("GET", "/book", "user"): 200, ("POST", "/reload", "user"): 401,
        ("GET", "/book", "token as password"): 401, ("POST", "/reload", "token as password"): 401,
        ("GET", "/book", "token"): 200, ("POST", "/reload", "token"): 200,
        ("GET", "/book", "read token"): 200, ("POST", "/reload", "read token"): 401,
    }  # fmt: skip
    # No "Basic" here: a browser would ask for a password that cannot help.
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="deskwatch"'


async def test_a_rotated_password_needs_no_restart(tmp_path: Path) -> None:
    """The new one is right and the old one wrong, although it was remembered."""
    write_file(tmp_path, basic_auth_users=HASHES)
    async with chassis(tmp_path) as served:
        assert (await served.ask(auth=("ann", "s3cr3t"))).status_code == 200
        served.write(basic_auth_users={"ann": hashed("n3w")})
        await served.noticed()
        statuses = [(await served.ask(auth=("ann", password))).status_code for password in ("n3w", "s3cr3t")]
        assert statuses == [200, 401]
        assert (await served.ask(auth=("bob", "pa:ss wörd"))).status_code == 401


async def test_headers_of_the_file_are_on_every_answer(tmp_path: Path) -> None:
    """Errors too; a blank one is none."""
    write_file(tmp_path, http_server_config={"headers": {
        "X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=60", "X-XSS-Protection": "",
    }})  # fmt: skip
    async with chassis(tmp_path) as served:
        for path in ("/book", "/nothing", "/-/healthy"):
            headers = (await served.ask(path=path)).headers
            assert (headers["X-Frame-Options"], headers["Strict-Transport-Security"]) == ("deny", "max-age=60")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "X-XSS-Protection" not in headers


async def test_the_rate_limit_spares_health_and_the_webhook(tmp_path: Path) -> None:
    """A supervisor must not kill the process for it, and no alert may be lost by it."""
    write_file(tmp_path, rate_limit={"interval": "1h", "burst": 2})
    async with chassis(tmp_path) as served:
        assert [(await served.ask()).status_code for _ in range(3)] == [200, 200, 429]
        assert (await served.ask("POST", "/hook")).status_code == 200
        assert (await served.ask(path="/-/healthy")).status_code == 200
        served.write(rate_limit={"interval": "1ms", "burst": 1})
        await served.noticed()
        await asyncio.sleep(0.01)
        assert (await served.ask()).status_code == 200


async def test_a_password_is_hashed_once_however_often_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape each second must not cost a core; a wrong one that is repeated neither."""
    counted, users = Counted(monkeypatch), Users(HASHES)
    for _ in range(20):
        assert await users.check("ann", "s3cr3t")
        assert not await users.check("ann", "wrong")
    assert len(counted.checks) == 2
    assert await asyncio.gather(*(users.check("bob", "pa:ss wörd") for _ in range(20))) == [True] * 20
    assert (len(counted.checks), counted.most_at_once) == (3, 1)


async def test_an_unknown_user_costs_as_much_as_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same hashing is done, so time tells nobody which names exist; not even the decoy's own password helps."""
    counted, users = Counted(monkeypatch), Users(HASHES)
    assert not await users.check("eve", "s3cr3t")
    assert counted.checks == [HASHES["ann"].encode()]
    assert not await users.check("eve", "s3cr3t")
    assert len(counted.checks) == 1


async def test_guesses_do_not_push_out_what_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is remembered stays bounded."""
    counted, users = Counted(monkeypatch), Users({"ann": HASHES["ann"]})
    monkeypatch.setattr(basic_auth, "REMEMBERED", 3)
    assert await users.check("ann", "s3cr3t")
    for guess in range(5):
        assert not await users.check("ann", f"guess {guess}")
    assert len(counted.checks) == 6
    assert await users.check("ann", "s3cr3t")
    assert not await users.check("ann", "guess 4")
    assert len(counted.checks) == 6
    assert not await users.check("ann", "guess 0")
    assert len(counted.checks) == 7


async def test_a_flood_of_guesses_is_refused_while_known_callers_go_on() -> None:
    """The queue is bounded."""
    users = Users({"ann": hashed("s3cr3t", cost=6)})
    assert await users.check("ann", "s3cr3t")
    guesses = [asyncio.ensure_future(users.check("ann", f"guess {n}")) for n in range(basic_auth.MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyGuesses):
        await users.check("ann", "one more")
    assert await users.check("ann", "s3cr3t")
    assert not any(await asyncio.gather(*guesses))
    assert not await users.check("ann", "one more")


async def test_two_pairs_that_join_to_one_text_are_two() -> None:
    """`a` with `b:c` is not `a:b` with `c`."""
    users = Users({"a": hashed("b:c")})
    assert await users.check("a", "b:c")
    assert not await users.check("a:b", "c")


async def test_a_long_password_counts_as_far_as_bcrypt_looks() -> None:
    """72 bytes, as everywhere: no error of the library's gets through."""
    users = Users({"ann": hashed("x" * 72)})
    assert await users.check("ann", "x" * 100)
    assert not await users.check("ann", "x" * 71)
    assert not await users.check("ann", "x\0y")


async def test_without_users_nobody_is_one() -> None:
    """And nothing is hashed."""
    assert not await Users({}).check("", "")


async def test_a_file_that_asks_for_http2_is_told_what_it_gets(tmp_path: Path) -> None:
    """It may be shared with other exporters, so it is no fault; clients agree on HTTP/1.1 by themselves."""
    for content, said in (({"http2": True}, 1), ({"http2": False}, 0), ({}, 0)):
        write_file(tmp_path, http_server_config=content)
        with capture_logs() as logs:
            async with chassis(tmp_path) as served:
                assert (await served.ask()).http_version == "HTTP/1.1"
        assert sum("HTTP/1.1" in each["event"] for each in logs) == said
