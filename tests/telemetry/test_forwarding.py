"""What workers record, kept by the supervisor (`telemetry.forwarding`)."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seed_oauth import Pipeline
from seed_oauth.outcomes import GrantType, Outcome
from seed_oauth.telemetry import ForwardingPipeline, Telemetry
from seed_oauth.telemetry.contract import ENDPOINTS, IdpOutcome, Operation
from seed_oauth.telemetry.forwarding import Replay
from tests.harness import TOKENS, RelayDoor, code_request, refresh_request

pytestmark = pytest.mark.anyio

OUTCOMES: list[Outcome] = [outcome for outcomes in ENDPOINTS for outcome in outcomes]


@dataclass
class Pipe:
    """A worker's pipeline, the supervisor's, and the pipe between them."""

    worker: ForwardingPipeline
    supervisor: Pipeline
    replay: Replay
    reading: int
    writing: int


def make_pipe(supervisor: Pipeline) -> Pipe:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    return Pipe(ForwardingPipeline(writing), supervisor, supervisor.replay(reading), reading, writing)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = make_pipe(Pipeline())
    yield made
    os.close(made.writing)
    made.replay.close()


def play(telemetry: Telemetry, seed: int, requests: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable mix
    for _ in range(requests):
        seconds = chance.choice([0.05, 0.3, 0.7, 1.5, 3.0, 7.0])
        idp = chance.choice(list(IdpOutcome))
        if chance.random() < 0.4:
            telemetry.record_exchange(chance.choice(list(GrantType)), idp, seconds)
        elif chance.random() < 0.2:
            telemetry.record_idp_request(Operation.REVOCATION, idp, seconds)
        telemetry.record(chance.choice(OUTCOMES))


async def counted(pipeline: Pipeline) -> dict[object, float]:
    door = RelayDoor(pipeline=pipeline)
    return {key: value for key, value in (await door.samples()).items() if key[0].startswith("oauth_")}


@pytest.mark.parametrize("seed", range(5))
async def test_what_several_workers_record_is_what_one_process_would_have_recorded(seed: int) -> None:
    alone, together = Pipeline(), Pipeline()
    pipes = [make_pipe(together) for _ in range(3)]
    for number, pipe in enumerate(pipes):
        play(alone.telemetry, seed * 10 + number, 100)  # what fits into a pipe, behind the first zeros
        play(pipe.worker.telemetry, seed * 10 + number, 100)
        assert pipe.replay.read()
    assert await counted(together) == pytest.approx(await counted(alone))
    for pipe in pipes:
        os.close(pipe.writing)
        pipe.replay.close()


async def test_every_known_label_set_is_there_at_0_before_any_worker_runs() -> None:
    values = await counted(Pipeline())
    assert values
    assert set(values.values()) == {0}


async def test_what_a_worker_wrote_before_it_died_is_counted(pipe: Pipe) -> None:
    play(pipe.worker.telemetry, 1, 50)
    writing = os.dup(pipe.writing)
    os.close(pipe.writing)  # as its death does
    pipe.writing = writing
    alone = Pipeline()
    play(alone.telemetry, 1, 50)
    pipe.replay.read()
    assert await counted(pipe.supervisor) == pytest.approx(await counted(alone))


async def test_a_line_that_was_cut_by_a_kill_is_left_out(pipe: Pipe) -> None:
    pipe.worker.give_sign_of_life()
    pipe.replay.read()
    before = await counted(pipe.supervisor)
    os.write(pipe.writing, b'[[0,1,{"result":"suc')
    assert pipe.replay.read()
    assert await counted(pipe.supervisor) == before


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=8))
def test_a_supervisor_that_stands_still_for_a_while_loses_nothing(bursts: list[int]) -> None:
    pipe = make_pipe(Pipeline())
    for requests in bursts:  # far more than a pipe holds
        for _ in range(requests):
            pipe.worker.telemetry.record_exchange(GrantType.REFRESH_TOKEN, IdpOutcome.OK, 0.2)
            pipe.worker.telemetry.record(OUTCOMES[0])
    for _ in range(len(bursts) * 10 + 10):
        pipe.replay.read()
        pipe.worker.give_sign_of_life()
    pipe.replay.read()
    (metric,) = (metric for metric in pipe.supervisor.registry.collect() if metric.name == "oauth_token_exchanges")
    assert sum(sample.value for sample in metric.samples) == sum(bursts)
    os.close(pipe.writing)
    pipe.replay.close()


async def test_a_worker_learns_that_its_supervisor_is_gone(pipe: Pipe) -> None:
    assert pipe.worker.give_sign_of_life()
    pipe.replay.close()
    assert not pipe.worker.give_sign_of_life()
    pipe.reading, other = os.pipe()
    os.close(other)
    pipe.replay = pipe.supervisor.replay(pipe.reading)
    os.set_blocking(pipe.reading, False)


async def test_the_app_records_everything_through_the_pipe(pipe: Pipe) -> None:
    async with RelayDoor(idp=lambda _: httpx.Response(200, json=TOKENS)) as expected:
        await expected.token(code_request())
        await expected.token(refresh_request(client_id="nobody"))
    worker = RelayDoor(idp=lambda _: httpx.Response(200, json=TOKENS), pipeline=pipe.worker)  # type: ignore[arg-type]
    async with worker:
        await worker.token(code_request())
        await worker.token(refresh_request(client_id="nobody"))
    pipe.replay.read()
    kept = await RelayDoor(pipeline=pipe.supervisor).samples()
    alone = await expected.samples()
    comparable = {key for key in alone if key[0].endswith(("_total", "_count", "_up"))}
    comparable = {key for key in comparable if not key[0].startswith("process_")}
    assert {key: kept[key] for key in comparable} == {key: alone[key] for key in comparable}
    assert [key for key in comparable if key[0] == "http_client_request_duration_seconds_count"]
