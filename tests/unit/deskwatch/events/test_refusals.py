"""What errors of Kafka's mean: one bounded reason each, and whether trying again can help."""

from __future__ import annotations

import pytest

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.events.cluster import Failure
from deskwatch.events.refusals import SHOWN, Unsupported, explain, most_telling

REFUSED = Failure("", "_TRANSPORT", "127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused")
ALL_DOWN = Failure("", "_ALL_BROKERS_DOWN", "1/1 brokers are down")
NO_ANSWER = Failure("brokers and topics", "_TRANSPORT", "Failed to get metadata: Local: Broker transport failure")
LOGIN = Failure("", "_AUTHENTICATION", "SASL authentication error: invalid credentials")


@pytest.mark.parametrize(
    ("name", "said", "kind", "reason"),
    [
        ("_TRANSPORT", "Connect to ipv4#127.0.0.1:9 failed: Connection refused", Retryable, "refused"),
        ("_TRANSPORT", "SSL handshake failed: connecting to a PLAINTEXT broker listener?", Retryable, "tls"),
        ("_TRANSPORT", "ApiVersionRequest failed: Local: Timed out", Retryable, "timeout"),
        ("_ALL_BROKERS_DOWN", "3/3 brokers are down", Retryable, "refused"),
        ("_TIMED_OUT", "Local: Timed out", Retryable, "timeout"),
        ("_RESOLVE", "Failed to resolve 'kafka:9092'", Retryable, "dns"),
        ("_SSL", "certificate verify failed", Retryable, "tls"),
        ("_INVALID_ARG", "ssl.ca.location failed: no such file", Retryable, "tls"),
        ("_INVALID_ARG", "Invalid value", Permanent, "rejected"),
        ("_BAD_MSG", "Invalid response size 1213486160", Retryable, "bad_response"),
        ("_AUTHENTICATION", "SASL handshake failed", Permanent, "auth"),
        ("SASL_AUTHENTICATION_FAILED", "bad password", Permanent, "auth"),
        ("TOPIC_AUTHORIZATION_FAILED", "Broker: Topic authorization failed", Permanent, "auth"),
        ("GROUP_AUTHORIZATION_FAILED", "Broker: Group authorization failed", Permanent, "auth"),
        ("UNKNOWN_TOPIC_OR_PART", "Broker: Unknown topic or partition", Permanent, "not_found"),
        ("THROTTLING_QUOTA_EXCEEDED", "slower", Retryable, "rate_limited"),
        ("LEADER_NOT_AVAILABLE", "Broker: Leader not available", Retryable, "server_error"),
        ("SOMETHING_NEW", "?", Retryable, "server_error"),
        ("_UNSUPPORTED_FEATURE", "Required feature not supported by broker", Unsupported, "rejected"),
    ],
)
def test_each_error_has_its_reason(name: str, said: str, kind: type[Exception], reason: str) -> None:
    """Nothing but words of the one list; a login that is refused is not tried again and again."""
    error = explain(Failure("topic orders", name, said))
    assert type(error) is kind
    assert error.reason == Reason(reason)
    assert str(error).startswith(f"Kafka: topic orders: {said}")


def test_a_refused_login_says_what_to_do() -> None:
    """The next step stands in the message."""
    assert str(explain(LOGIN)).endswith(": check login and permissions")


def test_a_long_text_is_cut() -> None:
    """It goes to the log and the landing page."""
    assert len(str(explain(Failure("x", "_FAIL", "y" * 5000)))) == len("Kafka: x: ") + SHOWN


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ([], Failure("brokers and topics", "_TIMED_OUT", "no broker answered in time")),
        ([REFUSED, ALL_DOWN], Failure("brokers and topics", REFUSED.name, REFUSED.said)),
        ([ALL_DOWN], Failure("brokers and topics", ALL_DOWN.name, "no broker can be reached")),
        ([REFUSED, ALL_DOWN, LOGIN], Failure("brokers and topics", LOGIN.name, LOGIN.said)),
        (
            [Failure("", "NOT_ENOUGH_REPLICAS", "irrelevant")],
            Failure("brokers and topics", "_TIMED_OUT", "no broker answered in time"),
        ),
    ],
    ids=["nothing", "refused", "down", "login", "irrelevant"],
)
def test_a_lost_connection_is_explained_by_what_was_seen_on_it(seen: list[Failure], told: Failure) -> None:
    """librdkafka says `transport failure` of everything; a peer that takes the connection and is silent is too slow."""
    assert most_telling(NO_ANSWER, seen) == told


def test_an_error_of_the_answers_own_stands() -> None:
    """A topic we may not see is not explained by another broker that is down."""
    denied = Failure("topic x", "TOPIC_AUTHORIZATION_FAILED", "no")
    assert most_telling(denied, [REFUSED]) == denied
