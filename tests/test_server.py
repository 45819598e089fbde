"""What `seed-oauth serve` does with the process it has for itself."""

import asyncio
import gc
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette

from seed_oauth.server import Listener, listen, run_together

pytestmark = pytest.mark.anyio


@pytest.fixture
def garbage_collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("garbage_collector")
async def test_the_garbage_collector_leaves_alone_what_was_there_before_the_first_request() -> None:
    with listen("127.0.0.1", 0, "PORT") as listening:
        front_door = Listener(Starlette(), listening)
        serving = asyncio.create_task(run_together(front_door))
        await asyncio.sleep(0)
        assert gc.get_freeze_count() > 10_000
        # 200 requests under way at once are some 10,000 objects that are no garbage.
        assert gc.get_threshold()[0] == 10_000
        front_door.should_exit = True
        await serving
