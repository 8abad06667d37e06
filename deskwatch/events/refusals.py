"""What an error of Kafka's means to us: its name and text to a bounded reason, and whether trying again can help. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.events.cluster import Failure

SHOWN = 200


class Unsupported(Permanent):
    """The brokers do not know this question."""


_REASONS: dict[Reason, str] = {
    Reason.REFUSED: "_TRANSPORT _ALL_BROKERS_DOWN",
    Reason.TIMEOUT: "_TIMED_OUT _TIMED_OUT_QUEUE _WAIT_COORD REQUEST_TIMED_OUT",
    Reason.DNS: "_RESOLVE",
    Reason.TLS: "_SSL",
    Reason.BAD_RESPONSE: "_BAD_MSG _BAD_COMPRESSION _PROTOCOL _UNDERFLOW",
    Reason.RATE_LIMITED: "THROTTLING_QUOTA_EXCEEDED",
    Reason.AUTH: (
        "_AUTHENTICATION SASL_AUTHENTICATION_FAILED UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE SECURITY_DISABLED"
        " TOPIC_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED"
    ),
    Reason.NOT_FOUND: "UNKNOWN_TOPIC_OR_PART _UNKNOWN_TOPIC _UNKNOWN_PARTITION GROUP_ID_NOT_FOUND UNKNOWN_TOPIC_ID",
    Reason.REJECTED: "_INVALID_ARG INVALID_REQUEST INVALID_GROUP_ID TOPIC_EXCEPTION _UNSUPPORTED_FEATURE UNSUPPORTED_VERSION",
}
_BY_NAME = {name: reason for reason, names in _REASONS.items() for name in names.split()}
_UNSUPPORTED = ("_UNSUPPORTED_FEATURE", "UNSUPPORTED_VERSION")
_FINAL = (Reason.AUTH, Reason.NOT_FOUND, Reason.REJECTED)
_TELLING = (Reason.AUTH, Reason.TLS, Reason.DNS, Reason.BAD_RESPONSE, Reason.REFUSED, Reason.TIMEOUT)
"""From what explains a lost connection best to what explains it least."""


def reason_of(failure: Failure) -> Reason:
    """The bounded reason. A lost connection is looked at closely: TLS and time-outs come as `_TRANSPORT` too."""
    if failure.name == "_TRANSPORT":
        said = failure.said.lower()
        if "ssl" in said:
            return Reason.TLS
        if "timed out" in said:
            return Reason.TIMEOUT
    if failure.name == "_INVALID_ARG" and "ssl." in failure.said:
        return Reason.TLS  # a certificate or key that cannot be read
    return _BY_NAME.get(failure.name, Reason.SERVER_ERROR)


def is_unsupported(failure: Failure) -> bool:
    """Whether the brokers do not know the question."""
    return failure.name in _UNSUPPORTED


def described(failure: Failure) -> str:
    """For a person: what was asked for and what came of it."""
    hint = ": check login and permissions" if reason_of(failure) is Reason.AUTH else ""
    said = failure.said.strip()
    said += f" {failure.name}" if not said or said.endswith(":") else ""
    return f"Kafka: {failure.what}: {said[:SHOWN].lstrip()}{hint}"


def explain(failure: Failure) -> Retryable | Permanent:
    """The error to raise where the failure is the whole answer."""
    reason = reason_of(failure)
    if is_unsupported(failure):
        return Unsupported(described(failure), reason=reason)
    kind = Permanent if reason in _FINAL else Retryable
    return kind(described(failure), reason=reason)


def most_telling(failure: Failure, seen: Iterable[Failure]) -> Failure:
    """Of an answer that did not come, and what was seen on the connections meanwhile, what explains it best.

    The answer's own error says only that none came; without anything seen it came too late, not to a closed door.
    """
    if reason_of(failure) not in (Reason.REFUSED, Reason.TIMEOUT):
        return failure
    found = [each for each in seen if reason_of(each) in _TELLING]
    if not found:
        return Failure(failure.what, "_TIMED_OUT", "no broker answered in time")
    # Of equals the first: `_ALL_BROKERS_DOWN` comes after the broker's own error and says less.
    best = min(found, key=lambda each: _TELLING.index(reason_of(each)))
    return Failure(failure.what, best.name, "no broker can be reached" if best.name == "_ALL_BROKERS_DOWN" else best.said)
