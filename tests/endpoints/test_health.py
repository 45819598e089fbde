import pytest

from tests.harness import BrokenStore, FrontDoor, json_of

pytestmark = pytest.mark.anyio


async def test_a_door_that_is_set_up_is_healthy_and_ready(door: FrontDoor) -> None:
    assert (await door.http.get("/healthz")).status_code == 200
    response = await door.http.get("/readyz")
    assert (response.status_code, json_of(response)) == (200, {"status": "ready"})


async def test_what_is_missing_is_named_and_the_app_starts_all_the_same() -> None:
    async with FrontDoor(settings={"idp_authorization_url": None, "idp_client_id": None,
                                   "idp_client_secret": None}) as door:  # fmt: skip
        assert (await door.http.get("/healthz")).status_code == 200
        response = await door.http.get("/readyz")
    assert response.status_code == 503
    assert json_of(response)["problems"] == [
        "SEED_OAUTH_IDP_AUTHORIZATION_URL is not set",
        "SEED_OAUTH_IDP_CLIENT_ID is not set",
    ]


async def test_a_store_that_is_down_makes_the_door_not_ready_but_alive() -> None:
    async with FrontDoor(clients=BrokenStore()) as door:
        assert (await door.http.get("/healthz")).status_code == 200
        response = await door.http.get("/readyz")
    assert response.status_code == 503
    assert "SEED_OAUTH_STORE_URL" in json_of(response)["problems"][0]


async def test_the_public_port_never_serves_metrics(door: FrontDoor) -> None:
    assert (await door.http.get("/metrics")).status_code == 404
