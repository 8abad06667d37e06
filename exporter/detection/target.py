"""An address the second detector posts to, an Alertmanager or the receiver: one post with its deadline, and what came of it.

Retries nothing: whoever posts decides when to post again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import as_retryable, client, raise_for_failure
from deskwatch.logs import get_logger
from exporter.config import AlertmanagerConfig, ReceiverAddress

OK = "ok"
"""Outcome of a post that was accepted; the others are reasons."""


class Target:
    """One address alerts are posted to: what it answered last, and how often.

    Args:
        config: the address.
        path: appended to it.
    """

    def __init__(self, config: AlertmanagerConfig | ReceiverAddress, path: str) -> None:
        self.config = config
        self.name = config.base_url.partition("://")[2]
        self.outcomes: Counter[str] = Counter()
        self.news = asyncio.Event()
        """Set when there is reason to post now: something new fires, or the address is to be reached another way."""
        self.accepts: bool | None = None
        """Whether the last post was accepted; None where there was none since the last news."""
        self._failing = False
        self._path = path
        self._line = _Line(config)
        self._retired: list[_Line] = []

    def prepare(self, config: AlertmanagerConfig | ReceiverAddress) -> Callable[[], None]:
        """How to go on with other credentials, certificates or deadlines for the same address: call what is returned.

        A post under way ends as it began.
        """
        line = self._line if config == self.config else _Line(config)

        def swap() -> None:
            if line is not self._line:
                self._retired.append(self._line)
                self.news.set()  # what was refused so far is tried at once
            self.config, self._line = config, line

        return swap

    async def post(self, body: str) -> None:
        """Post once.

        Raises:
            Retryable: not reached, or not now.
            Permanent: refused.
        """
        line = self._line
        try:
            with line.held():
                async with asyncio.timeout(self.config.timeout_seconds):
                    response = await line.client.post(self._path, content=body.encode())
            raise_for_failure(response, what=self.name)
        except (httpx.HTTPError, TimeoutError) as error:
            found = as_retryable(error, what=self.name) if isinstance(error, httpx.HTTPError) else None
            self._keep(found or Retryable(f"{self.name} did not answer in time", reason=Reason.TIMEOUT))
        except (Retryable, Permanent) as error:
            self._keep(error)
        else:
            if self._failing:
                get_logger().info("the second detector reaches its target again", target=self.name)
            self.accepts, self._failing = True, False
            self.outcomes[OK] += 1
        finally:
            await self.close_retired()

    def _keep(self, error: Retryable | Permanent) -> None:
        """Count the failure, log the first in a row, and raise it."""
        if not self._failing:
            message = "the second detector cannot post its alerts"
            get_logger().warning(message, target=self.name, reason=error.reason.value, error=str(error))
        self.accepts, self._failing = False, True
        self.outcomes[error.reason.value] += 1
        raise error

    async def close_retired(self) -> None:
        """Close the connections of earlier configurations nothing uses any more."""
        for line in [line for line in self._retired if not line.users]:
            self._retired.remove(line)
            await line.client.aclose()

    async def close(self) -> None:
        """Close the connections."""
        for line in (*self._retired, self._line):
            await line.client.aclose()


class _Line:
    """The connections made with one configuration, and how many posts are using them."""

    def __init__(self, config: AlertmanagerConfig | ReceiverAddress) -> None:
        secret = config.authorization if isinstance(config, AlertmanagerConfig) else config.token
        headers = {"Authorization": f"Bearer {secret.get_secret_value()}"} if secret else {}
        self.client = client(config, base_url=config.base_url, headers={**headers, "Content-Type": "application/json"})
        self.users = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Use it: it is not closed meanwhile."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1
