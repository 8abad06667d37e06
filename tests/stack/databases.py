"""Real PostgreSQL and MariaDB servers for tests: on loopback, with TLS, in a folder of their own, gone at the end.

Neither runs as root: started by root they run as `nobody`, in a folder that user can enter.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import trustme

from tests.components import find

READY_SECONDS = 30.0
ADMIN_PASSWORD = "adm1n"
READER, READER_PASSWORD = "reader", "re@d:er/pw"
"""A password that has to be written with percent signs in an address."""
READER_ENCODED = "re%40d%3Aer%2Fpw"
CERTIFIED = "certified"
"""A user PostgreSQL knows by a certificate alone."""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Server:
    """One server: `start`, `kill`, `start` again on the same port and data."""

    scheme: ClassVar[str]
    admin: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    end: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="deskwatch-", dir="/tmp"))
        self.data = self.folder / "data"
        self.port = free_port()
        self.log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.ca_file = self.folder / "ca.pem"
        self.other_ca_file = self.folder / "other-ca.pem"
        self.client_certificate = self.folder / "client.pem"
        self._certify()
        self.data.mkdir(mode=0o700)
        self.own(self.folder, self.data, self.folder / "server.key", self.folder / "server.pem")
        self.create()

    def create(self) -> None:
        """Make the data folder."""
        raise NotImplementedError

    def command(self) -> Sequence[str | Path]:
        """What runs the server."""
        raise NotImplementedError

    async def connect(self, database: str = "") -> Any:
        """An administrator's connection of the driver, each statement committed by itself."""
        raise NotImplementedError

    def url(self, database: str = "", user: str = READER, password: str = READER_ENCODED, options: str = "") -> str:
        """Address for the configuration."""
        return f"{self.scheme}://{user}:{password}@127.0.0.1:{self.port}/{database}{options}"

    def start(self) -> None:
        """Start and return once it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, start_new_session=True, cwd=self.folder, **self.identity()
            )
        until = time.monotonic() + READY_SECONDS
        while not asyncio.run(self._answers()):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server does not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, without a word to anybody connected."""
        if self._process is not None:
            self._process.send_signal(self.end)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Kill it and forget its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _answers(self) -> bool:
        try:
            connection = await asyncio.wait_for(self.connect(), 5)
        except Exception:
            return False
        await _closed(connection)
        return True

    async def execute(self, *statements: str, database: str = "") -> None:
        """Run statements as the administrator."""
        async with self.session(database) as run:
            for statement in statements:
                await run(statement)

    @asynccontextmanager
    async def session(self, database: str = "") -> AsyncIterator[Any]:
        """Runs statements as the administrator, one after the other; what each gives as rows."""
        connection = await self.connect(database)
        try:
            yield lambda statement: _run(connection, statement)
        finally:
            await _closed(connection)

    async def new_database(self, *statements: str) -> str:
        """A database of its own, with these statements run in it and readable by the reader."""
        raise NotImplementedError

    async def running_queries(self) -> list[str]:
        """Statements of the reader the server works on now."""
        raise NotImplementedError

    def own(self, *paths: Path) -> None:
        """Give files to the user the server runs as."""
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in paths:
                os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def identity(self) -> dict[str, Any]:
        """Whom to run as."""
        return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if os.getuid() == 0 else {}

    def program(self, name: str) -> Path:
        """The program, where the server's user can run it: copied to the folder if it cannot get to where it lies."""
        found = find(name)
        try:
            subprocess.run([found, "--version"], check=True, capture_output=True, cwd="/", **self.identity())
        except (OSError, subprocess.CalledProcessError):
            copy = self.folder / "programs"
            if not copy.exists():
                shutil.copytree(found.parents[1], copy, symlinks=True)
            return copy / found.parent.name / name
        return found

    def _certify(self) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(self.ca_file)
        trustme.CA().cert_pem.write_to_path(self.other_ca_file)
        authority.issue_cert(common_name=CERTIFIED).private_key_and_cert_chain_pem.write_to_path(self.client_certificate)
        certificate.private_key_pem.write_to_path(self.folder / "server.key")
        (self.folder / "server.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        (self.folder / "server.key").chmod(0o600)


class Postgres(Server):
    """PostgreSQL."""

    scheme, admin, programs = "postgresql", "postgres", ("postgres", "initdb")
    end = signal.SIGQUIT  # its processes are not of its group: told so, it takes them all with it

    def create(self) -> None:
        """`initdb`; passwords are asked for over the network."""
        secret = self.folder / "password"
        secret.write_text(ADMIN_PASSWORD)
        secret.chmod(0o644)
        self._postgres = self.program("postgres")
        command = [self.program("initdb"), "-D", self.data, "-U", self.admin, "--auth=scram-sha-256", f"--pwfile={secret}"]
        self._run_once([*command, "--no-sync", "--encoding=UTF8", "--no-locale"])
        access = self.data / "pg_hba.conf"
        access.write_text(f"hostssl all {CERTIFIED} 127.0.0.1/32 cert\nhost all {CERTIFIED} all reject\n{access.read_text()}")

    def _run_once(self, command: Sequence[str | Path]) -> None:
        done = subprocess.run(command, capture_output=True, cwd=self.folder, check=False, **self.identity())
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr.decode()[-2000:]}")

    def command(self) -> Sequence[str | Path]:
        """Nothing waits for the disk; what is committed survives the end of the process."""
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder, "fsync": "off",
            "full_page_writes": "off", "shared_buffers": "32MB", "max_connections": 40,
            "ssl": "on", "ssl_cert_file": self.folder / "server.pem", "ssl_key_file": self.folder / "server.key",
            "ssl_ca_file": self.ca_file,
            "autovacuum": "off", "timezone": "UTC",
        }  # fmt: skip
        return [
            self._postgres,
            "-D",
            self.data,
            *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
        ]

    async def connect(self, database: str = "") -> Any:
        """Of asyncpg."""
        import asyncpg  # type: ignore[import-untyped,unused-ignore]

        return await asyncpg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.admin,
            password=ADMIN_PASSWORD,
            database=database or "postgres",
            ssl=False,
        )

    async def new_database(self, *statements: str) -> str:
        """With everything in it readable by the reader."""
        self._databases += 1
        name = f"trading_{self._databases}"
        if self._databases == 1:
            await self.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{READER_PASSWORD}'")
            await self.execute(f"CREATE ROLE {CERTIFIED} LOGIN IN ROLE {READER}")
        await self.execute(f"CREATE DATABASE {name}")
        grants = (
            f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER}",
            f"ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {READER}",
        )
        await self.execute(*grants, *statements, database=name)
        return name

    async def running_queries(self) -> list[str]:
        """Of `pg_stat_activity`."""
        async with self.session() as run:
            rows = await run(f"SELECT query FROM pg_stat_activity WHERE usename = '{READER}' AND state = 'active'")  # noqa: S608
            return [row[0] for row in rows]


class MariaDb(Server):
    """MariaDB."""

    scheme, admin, programs = "mysql", "admin", ("mariadbd",)

    def create(self) -> None:
        """The system tables, as `mariadb-install-db` makes them, by the server itself."""
        self._mariadbd = self.program("mariadbd")
        self._share = self._find_share()
        scripts = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
        lines = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
        lines += "".join((self._share / script).read_text() for script in scripts)
        done = subprocess.run(
            [*self._base(), "--bootstrap", "--max-allowed-packet=8M", "--log-warnings=0"],
            input=lines.encode(), capture_output=True, cwd=self.folder, check=False, **self.identity(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"mariadbd --bootstrap failed: {done.stderr.decode()[-2000:]}")
        (self.folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS {self.admin}@'127.0.0.1' IDENTIFIED BY '{ADMIN_PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {self.admin}@'127.0.0.1' WITH GRANT OPTION;\n"
            f"CREATE USER IF NOT EXISTS {READER}@'127.0.0.1' IDENTIFIED BY '{READER_PASSWORD}';\n"
        )

    def _find_share(self) -> Path:
        places = [parent / "usr" / "share" / "mysql" for parent in self._mariadbd.resolve().parents]
        return next(place for place in [*places, Path("/usr/share/mysql")] if (place / "mysql_system_tables.sql").exists())

    def _base(self) -> list[str | Path]:
        return [
            self._mariadbd, "--no-defaults", f"--datadir={self.data}", f"--lc-messages-dir={self._share}",
            f"--character-sets-dir={self._share / 'charsets'}", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0", "--aria-log-file-size=8M", "--skip-log-bin",
        ]  # fmt: skip

    def command(self) -> Sequence[str | Path]:
        """On loopback."""
        return [
            *self._base(), "--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.folder / 's.sock'}",
            f"--pid-file={self.folder / 'data' / 'pid'}", f"--init-file={self.folder / 'init.sql'}", "--skip-name-resolve",
            f"--ssl-cert={self.folder / 'server.pem'}", f"--ssl-key={self.folder / 'server.key'}", f"--ssl-ca={self.ca_file}",
            "--character-set-server=utf8mb4",
        ]  # fmt: skip

    async def connect(self, database: str = "") -> Any:
        """Of aiomysql."""
        import aiomysql  # type: ignore[import-untyped,unused-ignore]

        return await aiomysql.connect(
            host="127.0.0.1", port=self.port, user=self.admin, password=ADMIN_PASSWORD, db=database or None, autocommit=True
        )

    async def new_database(self, *statements: str) -> str:
        """With everything in it readable by the reader."""
        self._databases += 1
        name = f"trading_{self._databases}"
        await self.execute(f"CREATE DATABASE {name}", f"GRANT SELECT, EXECUTE ON {name}.* TO {READER}@'127.0.0.1'")
        await self.execute(*statements, database=name)
        return name

    async def running_queries(self) -> list[str]:
        """Of the process list."""
        async with self.session() as run:
            listed = "SELECT info FROM information_schema.processlist"
            return [row[0] for row in await run(f"{listed} WHERE user = '{READER}' AND command = 'Query' AND info IS NOT NULL")]


async def _run(connection: Any, statement: str) -> list[Any]:
    if hasattr(connection, "fetch"):
        return list(await connection.fetch(statement))
    async with connection.cursor() as cursor:
        await cursor.execute(statement)
        return list(await cursor.fetchall())


async def _closed(connection: Any) -> None:
    if hasattr(connection, "ensure_closed"):
        await connection.ensure_closed()
    else:
        await connection.close()
    # The transport closes its socket in the loop's next turns.
    for _ in range(3):
        await asyncio.sleep(0)


class WithoutTls:
    """Stands between a client and the server, takes the server's offer of TLS away, and keeps what the client says then."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listening: asyncio.Server | None = None
        self.heard = b""

    @property
    def port(self) -> int:
        """Where the client connects to."""
        assert self._listening is not None
        return int(self._listening.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listening is not None
        self._listening.close()
        await self._listening.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._server, Postgres):
            await reader.readexactly(8)  # SSLRequest
            writer.write(b"N")
        else:
            greeting = bytearray(await self._greeting())
            # After the header, the version of the protocol and of the server: number, salt and filler, then two bytes of flags.
            flags = greeting.index(0, 5) + 1 + 4 + 8 + 1
            greeting[flags + 1] &= ~0x08  # CLIENT_SSL
            writer.write(bytes(greeting))
        await writer.drain()
        self.heard += await reader.read(1000)
        writer.close()

    async def _greeting(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        header = await reader.readexactly(4)
        packet = await reader.readexactly(int.from_bytes(header[:3], "little"))
        writer.close()
        return header + packet
