"""`/openapi.json`: an OpenAPI 3.1 document of every endpoint."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.http.answer import PUBLIC
from seed_oauth.settings import Settings


class ApiDescription:
    """The endpoint of the document, which is created for the first request: most deployments never get one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._content = b""

    async def __call__(self, _: Request) -> Response:
        """Answer with the document."""
        if not self._content:
            from seed_oauth.endpoints.openapi.document import document  # noqa: PLC0415 - loaded only if requested

            self._content = orjson.dumps(document(self._settings))
        return Response(self._content, headers=PUBLIC, media_type="application/json")
