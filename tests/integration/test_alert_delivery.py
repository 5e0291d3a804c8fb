"""Alerts on their way: to a receiver that refuses, stalls, is away, or is told twice."""

import base64
import hashlib
import hmac
import json
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, Row, create_engine, text

from mavedb_audit.alerts.delivery import send_due
from mavedb_audit.alerts.messages import Alert, Kind
from mavedb_audit.errors import ConfigurationError
from mavedb_audit.settings import settings
from tests.support import wait_until
from tests.support_receiver import SECRET_PATH, Receiver, receiving
from tests.support_serve import serving

NOWHERE = f"http://127.0.0.1:9{SECRET_PATH}"


@pytest.fixture
def engine(domain_database: str, use_database: Callable[[str], None]) -> Iterator[Engine]:
    use_database(domain_database)
    engine = create_engine(domain_database)
    yield engine
    engine.dispose()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets settings, as for a process that starts with them."""

    def use(**env: str) -> None:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()

    return use


def queue(engine: Engine, *channels: str) -> str:
    """An alert that waits for these channels; returns its key."""
    key = f"mirror_lag/audit/{uuid4()}"
    alert = Alert(
        key=key,
        kind=Kind.MIRROR_LAG,
        subject="audit",
        happened_at=datetime.now(UTC),
        title="Behind <!channel>",
        text="A & B",
        hint="Look",
    )
    with engine.begin() as connection:
        alert_id = connection.execute(
            text(
                """
                INSERT INTO alerts (key, kind, subject, payload, is_open)
                VALUES (:key, 'mirror_lag', 'audit', :payload, false) RETURNING id
                """
            ),
            {"key": key, "payload": alert.model_dump_json(by_alias=True)},
        ).scalar_one()
        for channel in channels:
            connection.execute(
                text("INSERT INTO alert_deliveries (alert_id, channel) VALUES (:id, :channel)"),
                {"id": alert_id, "channel": channel},
            )
    return key


def deliveries(engine: Engine) -> list[Row[Any]]:
    with engine.connect() as connection:
        return list(
            connection.execute(
                text(
                    """
                    SELECT *, extract(epoch FROM next_try_at - now()) AS wait
                      FROM alert_deliveries ORDER BY alert_id, channel
                    """
                )
            )
        )


def let_the_wait_end(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alert_deliveries SET next_try_at = now()"))


def test_an_error_of_the_receiver_is_tried_again_later_under_the_same_key(
    engine: Engine, receiver: Receiver, use: Callable[..., None]
) -> None:
    use(SLACK_WEBHOOK_URL=receiver.url)
    key = queue(engine, "slack")
    receiver.answer(500, "out of order")
    assert send_due() == 1
    assert send_due() == 0, "not at once"
    (waiting,) = deliveries(engine)
    assert (waiting.sent_at, waiting.gave_up_at, waiting.tries) == (None, None, 1)
    assert waiting.last_error == "HTTP 500: out of order"
    assert 1 < waiting.wait <= 5
    let_the_wait_end(engine)
    assert send_due() == 1
    (sent,) = deliveries(engine)
    assert (sent.sent_at is not None, sent.last_error) == (True, None)
    let_the_wait_end(engine)
    assert send_due() == 0
    assert receiver.keys == [key, key]
    body = receiver.received[1].json
    assert body["text"] == "Behind &lt;!channel&gt;", "nobody can be called by a message"


def test_the_waits_grow_and_a_receiver_may_ask_for_longer_ones(
    engine: Engine, receiver: Receiver, use: Callable[..., None]
) -> None:
    use(SLACK_WEBHOOK_URL=receiver.url)
    queue(engine, "slack")
    waits = []
    for more in ({}, {}, {}, {"Retry_After": "120"}, {"Retry_After": "999999"}):
        receiver.answer(429, **more)
        let_the_wait_end(engine)
        assert send_due() == 1
        waits.append(round(float(deliveries(engine)[0].wait)))
    assert waits == pytest.approx([5, 10, 20, 120, 3600], abs=2)


@pytest.mark.parametrize("status", [301, 400, 404, 410])
def test_a_refusal_is_given_up_and_kept(
    engine: Engine, receiver: Receiver, use: Callable[..., None], status: int
) -> None:
    use(SLACK_WEBHOOK_URL=receiver.url)
    queue(engine, "slack")
    receiver.answer(status, f"no {SECRET_PATH}", Location="/elsewhere")
    send_due()
    let_the_wait_end(engine)
    assert send_due() == 0
    (refused,) = deliveries(engine)
    assert refused.gave_up_at is not None
    assert refused.last_error == f"HTTP {status}: no ***"
    assert len(receiver.received) == 1


def test_a_receiver_that_is_away_gets_it_once_when_it_is_back(
    engine: Engine, receiver: Receiver, use: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    use(SLACK_WEBHOOK_URL=NOWHERE)
    key = queue(engine, "slack")
    send_due()
    (waiting,) = deliveries(engine)
    assert waiting.last_error.startswith("ConnectError")
    use(SLACK_WEBHOOK_URL=receiver.url)
    let_the_wait_end(engine)
    send_due()
    assert receiver.keys == [key]
    # What httpx itself logs, `serve` switches off.
    ours = [record.message for record in caplog.records if record.name.startswith("mavedb_audit")]
    assert any(line.startswith("alerts.put_off") for line in ours)
    assert SECRET_PATH not in " ".join([*ours, waiting.last_error])


def test_an_answer_that_does_not_come_is_not_waited_for(
    engine: Engine, receiver: Receiver, use: Callable[..., None]
) -> None:
    use(SLACK_WEBHOOK_URL=receiver.url, ALERT_TIMEOUT_SECONDS="0.3")
    queue(engine, "slack")
    receiver.let_go.clear()
    send_due()
    assert deliveries(engine)[0].last_error == "no answer within 0.3 seconds"


def test_a_webhook_gets_the_alert_signed(
    engine: Engine, receiver: Receiver, use: Callable[..., None]
) -> None:
    secret = b"a secret of thirty-two bytes ..."
    use(
        ALERT_WEBHOOK_URL=receiver.url,
        ALERT_WEBHOOK_SECRET=f"whsec_{base64.b64encode(secret).decode()}",
    )
    key = queue(engine, "webhook")
    send_due()
    (received,) = receiver.received
    assert received.headers["webhook-id"] == key
    signed = f"{key}.{received.headers['webhook-timestamp']}.".encode() + received.body
    signature = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert received.headers["webhook-signature"] == f"v1,{signature}"
    told = Alert.model_validate(received.json)
    assert (told.version, told.key, told.kind) == (1, key, Kind.MIRROR_LAG)
    assert "happenedAt" in received.json


def test_each_channel_has_its_own_way(
    engine: Engine, receiver: Receiver, use: Callable[..., None]
) -> None:
    use(SLACK_WEBHOOK_URL=NOWHERE, ALERT_WEBHOOK_URL=receiver.url)
    key = queue(engine, "slack", "webhook")
    send_due()
    slack, webhook = deliveries(engine)
    assert slack.sent_at is None
    assert webhook.sent_at is not None
    let_the_wait_end(engine)
    send_due()
    assert receiver.keys == [key], "what has arrived is not sent again with what has not"
    assert "webhook-signature" not in receiver.received[0].headers, "there is no secret"


@pytest.mark.parametrize("variable", ["SLACK_WEBHOOK_URL", "ALERT_WEBHOOK_URL"])
@pytest.mark.usefixtures("engine")
def test_a_url_that_is_none_is_named_and_not_shown(use: Callable[..., None], variable: str) -> None:
    use(**{variable: "hooks.example.org/secret"})
    with pytest.raises(ConfigurationError, match=variable) as error:
        send_due()
    assert "hooks.example.org" not in str(error.value)


def test_two_services_send_it_once_and_when_one_is_killed_meanwhile_the_other_sends_it(
    engine: Engine, receiver: Receiver, domain_database: str, tmp_path: Path
) -> None:
    env = {
        "DATABASE_URL": domain_database.replace("+psycopg", ""),
        "SLACK_WEBHOOK_URL": receiver.url,
        "ALERT_INTERVAL_SECONDS": "0.1",
        "VERIFY_INTERVAL_SECONDS": "0",
    }
    keys = [queue(engine, "slack") for _ in range(20)]

    def all_sent() -> bool:
        return all(delivery.sent_at for delivery in deliveries(engine))

    with serving(tmp_path / "1.log", **env) as first:
        with serving(tmp_path / "2.log", **env) as second:
            wait_until(all_sent)
            assert sorted(receiver.keys) == sorted(keys)
            assert second.poll() is None
        receiver.received.clear()
        receiver.let_go.clear()
        key = queue(engine, "slack")
        wait_until(lambda: receiver.keys == [key])
        first.send_signal(signal.SIGKILL)
        first.wait()
    receiver.let_go.set()
    assert deliveries(engine)[-1].sent_at is None, "nobody lived to note it"
    with serving(tmp_path / "3.log", **env):
        assert deliveries(engine)[-1].wait > 30, "it was the killed one's for so long"
        let_the_wait_end(engine)
        wait_until(all_sent)
    assert receiver.keys == [key, key], "a receiver can tell that it is the same"
    logged = [json.loads(line) for line in (tmp_path / "3.log").read_text().splitlines()]
    assert [line["key"] for line in logged if line["event"] == "alerts.sent"] == [key]
