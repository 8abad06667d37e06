"""An address the second detector posts to, an Alertmanager or the receiver: one post with its deadline, and what came of it.

Retries nothing: whoever posts decides when to post again.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import as_retryable, client, raise_for_failure
from deskwatch.logs import get_logger
from exporter.config import AlertmanagerConfig, ReceiverAddress

OK = "ok"
"""Outcome of a post that was accepted; the others are reasons."""


class Target:
    """One address alerts are posted to: what it answered last, and how often."""

    def __init__(self, config: AlertmanagerConfig | ReceiverAddress, path: str) -> None:
        secret = config.authorization if isinstance(config, AlertmanagerConfig) else config.token
        headers = {"Authorization": f"Bearer {secret.get_secret_value()}"} if secret else {}
        self.name = config.base_url.partition("://")[2]
        self.outcomes: Counter[str] = Counter()
        self.news = asyncio.Event()
        """Set when something fires that was not posted yet."""
        self.accepts: bool | None = None
        """Whether the last post was accepted; None where there was none since the last news."""
        self._failing = False
        self._path = path
        self._timeout_seconds = config.timeout_seconds
        self._client = client(config, base_url=config.base_url, headers={**headers, "Content-Type": "application/json"})

    async def post(self, body: str) -> None:
        """Post once.

        Raises:
            Retryable: not reached, or not now.
            Permanent: refused.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.post(self._path, content=body.encode())
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

    def _keep(self, error: Retryable | Permanent) -> None:
        """Count the failure, log the first in a row, and raise it."""
        if not self._failing:
            message = "the second detector cannot post its alerts"
            get_logger().warning(message, target=self.name, reason=error.reason.value, error=str(error))
        self.accepts, self._failing = False, True
        self.outcomes[error.reason.value] += 1
        raise error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
