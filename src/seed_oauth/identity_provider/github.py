"""Who a user is at GitHub, which issues no ID tokens: its API, read as claims.

https://docs.github.com/en/rest/users and https://docs.github.com/en/rest/teams/teams#list-teams-for-the-authenticated-user
"""

from collections.abc import Collection, Mapping
from typing import cast

from seed_oauth.access.identity import MOST_GROUPS
from seed_oauth.identity_provider.client import IdentityProvider
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure

_PAGE = 100  # entries, the most that GitHub sends at once


class GithubApi:
    """The API, as far as it says who the owner of an access token is."""

    def __init__(self, identity_provider: IdentityProvider, user_url: str, access_token: str) -> None:
        """`user_url` is that of `/user`."""
        self._identity_provider = identity_provider
        self._url = user_url
        self._token = access_token

    async def claims(self, needs: Collection[str]) -> Mapping[str, object]:
        """The claims about the user: `sub` and `name`, and those that `needs` lists.

        Raises:
            IdentityProviderError: a look-up failed, or has another form than GitHub's.
        """
        try:
            return await self._claims(needs)
        except (KeyError, TypeError, AttributeError):
            raise IdentityProviderError(
                IdentityProviderFailure.INVALID_RESPONSE, "the look-up of the user: not the form of GitHub's API"
            ) from None

    async def _claims(self, needs: Collection[str]) -> Mapping[str, object]:
        user = cast("Mapping[str, object]", await self._identity_provider.look_up(self._url, self._token))
        # A login can be renamed and taken over by somebody else; the number stays.
        claims: dict[str, object] = {"sub": str(user["id"]), "name": user.get("name") or user["login"]}
        if "email" in needs:
            claims |= self._primary(await self._pages("emails"))
        groups: list[object] = []
        if "github_orgs" in needs:
            groups += [org["login"] for org in await self._pages("orgs")]
        if "github_teams" in needs:
            teams = await self._pages("teams")
            groups += [f"{cast('Mapping[str, object]', one['organization'])['login']}/{one['slug']}" for one in teams]
        return claims | ({"groups": groups} if {"github_orgs", "github_teams"} & {*needs} else {})

    @staticmethod
    def _primary(emails: list[Mapping[str, object]]) -> dict[str, object]:
        found = [{"email": one["email"], "email_verified": one["verified"]} for one in emails if one["primary"] is True]
        return found[0] if found else {}

    async def _pages(self, name: str) -> list[Mapping[str, object]]:
        """All entries of a list, or at least more than are of use."""
        listed: list[Mapping[str, object]] = []
        page = 1
        while len(listed) == _PAGE * (page - 1) <= MOST_GROUPS:
            url = f"{self._url}/{name}?per_page={_PAGE}&page={page}"
            listed += cast("list[Mapping[str, object]]", await self._identity_provider.look_up(url, self._token))
            page += 1
        return listed
