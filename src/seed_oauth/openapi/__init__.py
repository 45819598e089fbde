"""`/openapi.json`: every endpoint as an OpenAPI 3.1 document, for people and for tools that test or call them."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.http.answer import PUBLIC
from seed_oauth.settings import Settings


class ApiDescription:
    """The document, which is made for the first who asks: most doors are never asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._content = b""

    async def __call__(self, _: Request) -> Response:
        """The document."""
        if not self._content:
            from seed_oauth.openapi.document import document  # noqa: PLC0415 - nobody else pays for it

            self._content = orjson.dumps(document(self._settings))
        return Response(self._content, headers=PUBLIC, media_type="application/json")
