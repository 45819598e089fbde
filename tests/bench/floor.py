"""The floor: what passing a request on costs with Starlette and aiohttp alone.

No checks, no clients, no metrics, no logs: nothing that does the job at all can be expected below it.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

IDENTITY_PROVIDER = os.environ["BENCH_IDENTITY_PROVIDER"]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    # limit=0: aiohttp's own 100 connections would queue requests at concurrency 128.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


async def authorize(request: Request) -> Response:
    return RedirectResponse(f"{IDENTITY_PROVIDER}/authorize?{request.url.query}", status_code=302)


async def token(request: Request) -> Response:
    form = parse_qsl((await request.body()).decode())
    session: aiohttp.ClientSession = request.app.state.session
    async with session.post(f"{IDENTITY_PROVIDER}/token", data=form) as answer:
        return Response(await answer.read(), answer.status, media_type="application/json")


app = Starlette(routes=[Route("/authorize", authorize), Route("/token", token, methods=["POST"])], lifespan=lifespan)
