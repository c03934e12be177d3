"""Ended jobs are told, signed, until somebody takes it or it has failed too often."""

import json
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from sqlalchemy import update

from core.courier import deliver_due
from core.db import Database, database_now
from core.egress import Egress
from core.models import WebhookDelivery, WebhookEndpoint
from core.settings import Settings
from core.webhooks import (
    BACKOFF_SECONDS,
    EVENT_TYPES,
    LOG_KEPT,
    MAX_ENDPOINTS,
    MAX_FAILURES,
    OLD_SECRET_KEPT,
    Try,
    claim_deliveries,
    forget_deliveries,
    record_try,
)
from tests.api.conftest import JOBS, Site, changed, problem_of, serving
from tests.servers.receiver import Receiver, receiving

ENDPOINTS = "/v1/webhook_endpoints"
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
REFUSED = Try(500, "answered with status 500", 0.1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on loopback."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def site(api_settings: Settings, database: Database) -> Iterator[Site]:
    """A server whose webhooks may go to loopback; the test itself is its only courier."""
    with serving(changed(api_settings, egress_allow=LOOPBACK), database) as site:
        chores = site.client.app.state.chores
        chores.close()
        yield site


def _create(site: Site, url: str, *event_types: str) -> dict[str, Any]:
    body = {"name": "mine", "url": url, "event_types": list(event_types or EVENT_TYPES)}
    response = site.client.post(ENDPOINTS, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def _cancel_a_job(site: Site) -> str:
    job_id = site.submit()
    site.client.post(f"{JOBS}/{job_id}/cancel")
    return job_id


def _deliver(site: Site) -> int:
    return deliver_due(site.database, Egress(LOOPBACK))


def _log(site: Site, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    found = site.client.get(f"{ENDPOINTS}/{endpoint['id']}/deliveries").json()["data"]
    assert isinstance(found, list)
    return found


def _make_due(site: Site) -> None:
    with site.database.write() as session:
        pending = update(WebhookDelivery).where(WebhookDelivery.status == "pending")
        session.execute(pending.values(next_try_at=database_now(session)))


def test_openais_client_accepts_what_is_told(site: Site, receiver: Receiver) -> None:
    secret = _create(site, receiver.url)["signing_secret"]
    job_id = _cancel_a_job(site)

    assert _deliver(site) == 1

    ((_, headers, body),) = receiver.seen
    client = OpenAI(api_key="none", webhook_secret=secret)
    event = client.webhooks.unwrap(body, headers)
    assert (event.type, event.object) == ("fine_tuning.job.cancelled", "event")
    assert event.data.id == job_id
    assert event.id == headers["webhook-id"]
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(body.replace(b"cancelled", b"succeeded"), headers)
    client.close()


def test_each_end_of_a_job_is_told_to_who_asked_for_it(site: Site, receiver: Receiver) -> None:
    _create(site, receiver.url, "fine_tuning.job.succeeded")
    lease = site.start()
    site.publish(lease, 1, {"model.safetensors": b"weights"})
    site.succeed(lease)
    _cancel_a_job(site)

    while _deliver(site):
        pass

    (told,) = [json.loads(body) for _, _, body in receiver.seen]
    assert told["type"] == "fine_tuning.job.succeeded"
    assert told["data"] == {"id": lease.job_id}


def test_what_is_told_survives_a_restart(
    site: Site, receiver: Receiver, api_settings: Settings
) -> None:
    _create(site, receiver.url)
    _cancel_a_job(site)

    other = Database(api_settings.database_url)
    assert deliver_due(other, Egress(LOOPBACK)) == 1
    other.close()
    assert _deliver(site) == 0
    assert len(receiver.seen) == 1


def test_a_sender_that_dies_leaves_it_to_the_next_one(site: Site, receiver: Receiver) -> None:
    endpoint = _create(site, receiver.url)
    _cancel_a_job(site)

    with site.database.write() as session:
        (lost,) = claim_deliveries(session, now=database_now(session), limit=9)
    assert _deliver(site) == 0
    _make_due(site)
    assert _deliver(site) == 1

    ((_, headers, _),) = receiver.seen
    assert headers["webhook-id"] == lost.headers["webhook-id"]
    assert _log(site, endpoint)[0]["status"] == "succeeded"


def test_what_was_not_taken_is_told_again_with_the_same_id(site: Site, receiver: Receiver) -> None:
    receiver.statuses = [503, 404, 204]
    endpoint = _create(site, receiver.url)
    _cancel_a_job(site)

    for _ in range(3):
        assert _deliver(site) == 1
        assert _deliver(site) == 0
        _make_due(site)

    assert _deliver(site) == 0
    assert len({headers["webhook-id"] for _, headers, _ in receiver.seen}) == 1
    (entry,) = _log(site, endpoint)
    assert (entry["status"], entry["next_try_at"]) == ("succeeded", None)
    assert [item["status_code"] for item in entry["tries"]] == [503, 404, 204]
    assert entry["tries"][0]["error"] == "answered with status 503"
    assert site.client.get(f"{ENDPOINTS}/{endpoint['id']}").json()["num_failures"] == 0


def test_the_pauses_grow_and_end(site: Site) -> None:
    endpoint = _create(site, "https://hook.invalid/")
    _cancel_a_job(site)

    pauses = []
    with site.database.write() as session:
        now = database_now(session)
        for _ in range(len(BACKOFF_SECONDS) + 1):
            (parcel,) = claim_deliveries(session, now=now, limit=9)
            record_try(session, parcel.delivery_id, REFUSED, now=now)
            delivery = session.get_one(WebhookDelivery, parcel.delivery_id)
            if delivery.next_try_at is not None:
                pauses.append((delivery.next_try_at - now).total_seconds())
                now = delivery.next_try_at

    assert pauses == list(BACKOFF_SECONDS)
    assert _log(site, endpoint)[0]["status"] == "failed"


def test_an_endpoint_that_only_fails_is_disabled_until_it_is_enabled(site: Site) -> None:
    endpoint = _create(site, "https://hook.invalid/")
    for _ in range(3):
        _cancel_a_job(site)

    with site.database.write() as session:
        now = database_now(session)
        tries = 0
        while parcels := claim_deliveries(session, now=now, limit=1):
            record_try(session, parcels[0].delivery_id, REFUSED, now=now)
            session.flush()
            tries += 1
            now += timedelta(days=1)

    assert tries == MAX_FAILURES
    url = f"{ENDPOINTS}/{endpoint['id']}"
    shown = site.client.get(url).json()
    assert (shown["enabled"], shown["num_failures"]) == (False, MAX_FAILURES)
    assert {entry["status"] for entry in _log(site, endpoint)} == {"failed"}
    _cancel_a_job(site)
    assert len(_log(site, endpoint)) == 3
    again = site.client.post(url, json={"enabled": True}).json()
    assert (again["enabled"], again["num_failures"], again["disabled_at"]) == (True, 0, None)
    _cancel_a_job(site)
    assert _log(site, endpoint)[0]["status"] == "pending"


def test_an_address_that_is_not_public_is_refused_at_once(site: Site) -> None:
    for url in ("https://10.0.0.1/", "http://169.254.169.254/latest", "https://[fd00::1]/"):
        body = {"name": "a", "url": url, "event_types": list(EVENT_TYPES)}
        error = problem_of(site.client.post(ENDPOINTS, json=body), 400)
        assert (error["code"], error["param"]) == ("address_not_allowed", "url")


def test_a_name_of_an_address_that_is_not_public_is_refused_when_it_is_used(
    site: Site, receiver: Receiver
) -> None:
    endpoint = _create(site, receiver.url.replace("127.0.0.1", "localhost"))
    _cancel_a_job(site)

    assert deliver_due(site.database, Egress()) == 1

    assert receiver.seen == []
    (entry,) = _log(site, endpoint)
    assert entry["status"] == "pending"
    assert "EGRESS_ALLOW" in entry["tries"][0]["error"]


def test_a_secret_is_shown_once(site: Site, receiver: Receiver) -> None:
    created = _create(site, receiver.url)
    url = f"{ENDPOINTS}/{created['id']}"

    shown = site.client.get(url).json()

    secret = created["signing_secret"]
    assert secret.startswith("whsec_")
    assert secret not in site.client.get(url).text + site.client.get(ENDPOINTS).text
    assert shown["signing_secret_hint"][-4:] in secret
    assert {**shown, "signing_secret": secret} == created


@pytest.mark.parametrize("keep", [True, False])
def test_an_old_secret_signs_for_another_day_if_it_is_kept(
    site: Site, receiver: Receiver, keep: bool
) -> None:
    created = _create(site, receiver.url)
    url = f"{ENDPOINTS}/{created['id']}/rotate_secret"
    rotated = site.client.post(url, json={"keep_old_secret_active_for_24_hours": keep}).json()
    secrets = (created["signing_secret"], rotated["signing_secret"])
    assert secrets[0] != secrets[1]

    for age in (timedelta(), OLD_SECRET_KEPT):
        with site.database.write() as session:
            if age:
                values = {"old_secret_until": database_now(session) - age}
                session.execute(update(WebhookEndpoint).values(values))
        _cancel_a_job(site)
        assert _deliver(site) == 1

    accepted = [
        [_is_accepted(secret, headers, body) for secret in secrets]
        for _, headers, body in receiver.seen
    ]
    assert accepted == [[keep, True], [False, True]]


def _is_accepted(secret: str, headers: dict[str, str], body: bytes) -> bool:
    with OpenAI(api_key="none") as client:
        try:
            client.webhooks.verify_signature(body, headers, secret=secret)
        except InvalidWebhookSignatureError:
            return False
    return True


def test_a_test_tells_what_the_endpoint_answered(site: Site, receiver: Receiver) -> None:
    receiver.statuses = [418]
    created = _create(site, receiver.url)
    url = f"{ENDPOINTS}/{created['id']}/test"

    answer = site.client.post(url, json={"event_type": "fine_tuning.job.failed"}).json()

    assert answer == {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": created["id"],
        "event_type": "fine_tuning.job.failed",
        "status_code": 418,
        "success": True,
    }
    ((_, headers, body),) = receiver.seen
    assert _is_accepted(created["signing_secret"], headers, body)
    assert _log(site, created) == []


def test_a_test_of_what_does_not_answer_says_why(site: Site) -> None:
    created = _create(site, "http://127.0.0.1:9/")
    url = f"{ENDPOINTS}/{created['id']}/test"

    response = site.client.post(url, json={"event_type": "fine_tuning.job.failed"})

    assert "ConnectError" in problem_of(response, 400)["message"]


def test_an_endpoint_is_changed_listed_and_deleted(site: Site, receiver: Receiver) -> None:
    ids = [_create(site, receiver.url)["id"] for _ in range(3)]
    url = f"{ENDPOINTS}/{ids[0]}"
    changes = {"name": "other", "event_types": ["fine_tuning.job.failed"]}

    shown = site.client.post(url, json=changes).json()

    assert (shown["name"], shown["event_types"]) == ("other", ["fine_tuning.job.failed"])
    page = site.client.get(ENDPOINTS, params={"limit": 2}).json()
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    rest = site.client.get(ENDPOINTS, params={"after": page["last_id"]}).json()
    assert [item["id"] for item in rest["data"]] == [ids[0]]
    deleted = site.client.delete(url).json()
    assert deleted == {"id": ids[0], "object": "webhook_endpoint.deleted", "deleted": True}
    problem_of(site.client.get(url), 404)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "not a url"),
        ("url", None),
        ("name", ""),
        ("event_types", []),
        ("event_types", ["batch.completed"]),
        ("event_types", "fine_tuning.job.failed"),
        ("unknown", 1),
    ],
)
def test_a_bad_endpoint_names_its_field(
    site: Site, receiver: Receiver, field: str, value: Any
) -> None:
    body = {"name": "a", "url": receiver.url, "event_types": list(EVENT_TYPES), field: value}
    created = _create(site, receiver.url)

    assert problem_of(site.client.post(ENDPOINTS, json=body), 400)["param"] == field
    response = site.client.post(f"{ENDPOINTS}/{created['id']}", json={field: value})
    assert problem_of(response, 400)["param"] == field


def test_there_is_an_end_of_endpoints(site: Site, receiver: Receiver) -> None:
    for _ in range(MAX_ENDPOINTS):
        _create(site, receiver.url)

    body = {"name": "a", "url": receiver.url, "event_types": list(EVENT_TYPES)}
    problem_of(site.client.post(ENDPOINTS, json=body), 400)


def test_the_log_is_kept_for_a_while(site: Site, receiver: Receiver) -> None:
    endpoint = _create(site, receiver.url)
    for _ in range(2):
        _cancel_a_job(site)
        _deliver(site)
    _cancel_a_job(site)

    url = f"{ENDPOINTS}/{endpoint['id']}/deliveries"
    page = site.client.get(url, params={"limit": 1}).json()
    rest = site.client.get(url, params={"after": page["last_id"]}).json()
    assert (len(page["data"]), len(rest["data"])) == (1, 2)
    with site.database.write() as session:
        now = database_now(session)
        assert forget_deliveries(session, now=now) == 0
        assert forget_deliveries(session, now=now + LOG_KEPT + timedelta(hours=1)) == 2
    assert [entry["status"] for entry in _log(site, endpoint)] == ["pending"]


def test_the_server_tells_by_itself(
    api_settings: Settings, database: Database, receiver: Receiver
) -> None:
    with serving(changed(api_settings, egress_allow=LOOPBACK), database) as site:
        endpoint = _create(site, receiver.url)
        _cancel_a_job(site)
        while _log(site, endpoint)[0]["status"] == "pending":
            pass

    assert len(receiver.seen) == 1


def test_a_redirect_is_not_taken_for_an_answer(site: Site, receiver: Receiver) -> None:
    receiver.statuses, receiver.headers = [302], {"location": receiver.url}
    endpoint = _create(site, receiver.url)
    _cancel_a_job(site)

    _deliver(site)

    assert len(receiver.seen) == 1
    assert _log(site, endpoint)[0]["tries"][0]["status_code"] == 302
