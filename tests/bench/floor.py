"""The floor: what passing a request on costs with Starlette and aiohttp alone, and what an empty answer does.

No checks, no clients, no metrics, no logs, written as the documentation of both libraries shows it.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import aiohttp
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

IDENTITY_PROVIDER = os.environ["BENCH_IDENTITY_PROVIDER"]
MCP_SERVER = os.environ.get("BENCH_MCP_SERVER", "")


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


async def mcp(request: Request) -> Response:
    # The answer is streamed, because it may be events.
    session: aiohttp.ClientSession = request.app.state.session
    answer = await session.request(
        request.method,
        f"{MCP_SERVER}?{request.url.query}",
        data=await request.body() or None,
        headers={name: request.headers[name] for name in ("accept", "content-type") if name in request.headers},
    )
    return StreamingResponse(
        answer.content.iter_any(),
        answer.status,
        headers={name: answer.headers[name] for name in ("content-type", "content-length") if name in answer.headers},
        background=BackgroundTask(answer.release),
    )


async def empty(_: Request) -> Response:
    return Response()


app = Starlette(
    routes=[
        Route("/authorize", authorize),
        Route("/token", token, methods=["POST"]),
        Route("/mcp", mcp, methods=["GET", "POST"]),
        Route("/empty", empty),
    ],
    lifespan=lifespan,
)
