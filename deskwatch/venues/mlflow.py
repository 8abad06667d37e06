"""An MLflow tracking server: its experiments, runs, logged models and registered models, as its REST API writes them.

Reads only. Pages by `page_token` until it has what was asked for. Refuses a list that is none, and paging that does not end.
Source: mlflow.org/docs/latest/api_reference/rest-api.html; checked field by field against server 3.17.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import HttpConfig, retry_after
from deskwatch.venues.wire import Wire

API = "/api/2.0/mlflow/"
PAGE = 1000
"""Records of a page: the most the server gives of registered models."""
MOST_PAGES = 1000
_TEMPORARY = {
    "REQUEST_LIMIT_EXCEEDED": Reason.RATE_LIMITED,
    "RESOURCE_EXHAUSTED": Reason.RATE_LIMITED,
    "TEMPORARILY_UNAVAILABLE": Reason.SERVER_ERROR,
    "INTERNAL_ERROR": Reason.SERVER_ERROR,
    "DEADLINE_EXCEEDED": Reason.TIMEOUT,
}
_FINAL = {
    "UNAUTHENTICATED": Reason.AUTH,
    "CUSTOMER_UNAUTHORIZED": Reason.AUTH,
    "ENDPOINT_NOT_FOUND": Reason.NOT_FOUND,
    "FEATURE_DISABLED": Reason.NOT_FOUND,
    "INVALID_PARAMETER_VALUE": Reason.REJECTED,
    "BAD_REQUEST": Reason.REJECTED,
    "MALFORMED_REQUEST": Reason.REJECTED,
}
_OURS = {"PERMISSION_DENIED": Reason.AUTH, "RESOURCE_DOES_NOT_EXIST": Reason.NOT_FOUND}


class Withheld(Permanent):
    """One experiment, run or model is not there, or not for us to see; the server's others may be."""


@dataclass(frozen=True, slots=True)
class Login:
    """How the server knows us: a bearer token, or a user with a password. All optional."""

    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)


class TrackingServer:
    """Asks one server.

    Args:
        base_url: address up to, without, `/api`.
        config: certificate, proxy, deadline of one call.
        clock: wall time, for a `Retry-After` given as a date.
        login: how the server knows us.
    """

    def __init__(self, base_url: str, config: HttpConfig, clock: Clock, login: Login) -> None:
        headers = {"Authorization": f"Bearer {login.token}"} if login.token else {}
        auth = httpx.BasicAuth(login.username, login.password or "") if login.username else None
        self._wire = Wire("MLflow", config, clock, base_url=base_url, headers=headers, auth=auth, refuse=_refusal)

    async def experiments(self) -> list[Any]:
        """Every active experiment, the last changed first.

        Raises:
            Retryable: no answer, too busy, or an answer that is none of the REST API's.
            Permanent: we are not let in, or there is no tracking server at this address.
        """
        content = {"view_type": "ACTIVE_ONLY", "order_by": ["last_update_time DESC"]}
        return [each async for each in self._search("experiments", "experiments", content)]

    async def newest_runs(self, experiment_id: str, limit: int) -> list[Any]:
        """The active runs of an experiment that began last. Raises as `experiments`, and `Withheld`."""
        return await self._runs(experiment_id, "attributes.start_time DESC", limit)

    async def last_finished(self, experiment_id: str) -> list[Any]:
        """The active run that has finished last, if there is one. Raises as `newest_runs`."""
        return await self._runs(experiment_id, "attributes.end_time DESC", 1, "attributes.status = 'FINISHED'")

    async def registered_models(self) -> list[Any]:
        """Every registered model, with its aliases and the newest version of each stage. Raises as `experiments`."""
        return [each async for each in self._pages("registered-models", "registered_models")]

    async def model_version(self, name: str, version: str) -> Any:
        """One version of a registered model. Raises as `experiments`, and `Withheld`."""
        answer = await self._wire.get(f"{API}model-versions/get", {"name": name, "version": version})
        return answer.get("model_version") if isinstance(answer, Mapping) else None

    async def logged_model(self, model_id: str) -> Any:
        """One model that a run has logged, such as a checkpoint. Raises as `experiments`, and `Withheld`."""
        answer = await self._wire.get(f"{API}logged-models/{model_id}")
        return answer.get("model") if isinstance(answer, Mapping) else None

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def _runs(self, experiment_id: str, order_by: str, limit: int, where: str = "") -> list[Any]:
        content = {"experiment_ids": [experiment_id], "run_view_type": "ACTIVE_ONLY", "order_by": [order_by], "filter": where}
        found: list[Any] = []
        async for each in self._search("runs", "runs", content, page=min(limit, PAGE)):
            found.append(each)
            if len(found) == limit:
                break
        return found

    async def _search(self, what: str, key: str, content: Mapping[str, Any], *, page: int = PAGE) -> AsyncIterator[Any]:
        """Records found by a POST."""
        token: str | None = None
        for _ in range(MOST_PAGES):
            asked = {**content, "max_results": page} | ({"page_token": token} if token else {})
            records, token = _page(await self._wire.post(f"{API}{what}/search", asked), key)
            for each in records:
                yield each
            if not token:
                return
        raise _endless(what)

    async def _pages(self, what: str, key: str) -> AsyncIterator[Any]:
        """Records found by a GET."""
        token: str | None = None
        for _ in range(MOST_PAGES):
            asked: dict[str, str | int] = {"max_results": PAGE} | ({"page_token": token} if token else {})
            records, token = _page(await self._wire.get(f"{API}{what}/search", asked), key)
            for each in records:
                yield each
            if not token:
                return
        raise _endless(what)


def _page(answer: Any, key: str) -> tuple[list[Any], str | None]:
    """The records of a page and the token of the next one. A list without entries is left out of the answer."""
    if isinstance(answer, Mapping) and (key in answer or not answer.keys() - {"next_page_token"}):
        records, token = answer.get(key, []), answer.get("next_page_token")
        if isinstance(records, list) and isinstance(token, str | None):
            return records, token
    raise Retryable(f"MLflow answered no list of {key}: is base_url a tracking server?", reason=Reason.BAD_RESPONSE)


def _endless(what: str) -> Retryable:
    return Retryable(f"MLflow: {what}: more than {MOST_PAGES} pages", reason=Reason.BAD_RESPONSE)


def _refusal(status: int, headers: Mapping[str, str], parsed: Any) -> Retryable | Permanent | None:
    """What `{"error_code": ..., "message": ...}` means; None where it is no such body."""
    code = parsed.get("error_code") if isinstance(parsed, Mapping) and status >= 400 else None
    if not isinstance(code, str) or status in (401, 429):
        return None
    said = f"MLflow: {code}: {str(parsed.get('message', ''))[:200]}"
    if code in _OURS:
        return Withheld(said, reason=_OURS[code])
    if code in _FINAL:
        return Permanent(said, reason=_FINAL[code])
    if code in _TEMPORARY:
        return Retryable(said, reason=_TEMPORARY[code], retry_after_seconds=retry_after(headers))
    return None
