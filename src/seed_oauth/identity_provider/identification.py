"""Who a user is: from the ID token, and from userinfo or GitHub's API where that does not say what the rules need."""

from collections.abc import Collection, Mapping

from seed_oauth.access.identity import ClaimNames, Claims, Identity, lacks
from seed_oauth.identity_provider.client import IdentityProvider
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.github import GithubApi
from seed_oauth.identity_provider.id_token import IdTokens
from seed_oauth.identity_provider.metadata import ProviderMetadata


class Identification:
    """Finds out who has logged in, with no more requests than are needed."""

    def __init__(
        self,
        identity_provider: IdentityProvider,
        id_tokens: IdTokens,
        names: ClaimNames,
        *,
        needs: Collection[str] = (),
        has_userinfo: bool = True,
        is_github: bool = False,
    ) -> None:
        """`needs` is what the access rules need to know, `has_userinfo` whether userinfo accepts our access tokens."""
        self._identity_provider = identity_provider
        self._id_tokens = id_tokens
        self._names = names
        self._needs = frozenset(needs)
        self._has_userinfo = has_userinfo
        self._is_github = is_github

    async def identify(
        self,
        tokens: Mapping[str, object],
        metadata: ProviderMetadata,
        *,
        has_asked: bool,
        subject: str | None = None,
    ) -> Identity | None:
        """The user that a token response is about; None if the identity provider says nothing.

        `has_asked` tells whether an ID token was asked for: some identity providers send one anyway, in whatever form.
        `subject` is who has logged in, where that is known.

        Raises:
            IdentityProviderError: BAD_ID_TOKEN, WRONG_SUBJECT, or a look-up that failed, which is never REFUSED.
        """
        claims = await self._id_token_claims(tokens, metadata, has_asked=has_asked)
        needs = self._needs if subject is None else self._needs - {"subject"}
        access_token = str(tokens["access_token"])
        url = metadata.userinfo_endpoint or ""
        if self._is_github:
            if needs or subject is None:
                claims = await GithubApi(self._identity_provider, url, access_token).claims(needs)
        elif url and self._has_userinfo and any(lacks(claims, self._names, need) for need in needs):
            claims = self._joined(claims, await self._identity_provider.look_up(url, access_token))
        if not claims:
            return None
        identity = Identity.of(claims, self._names, metadata.issuer)
        if subject is not None and identity.subject != subject:
            raise _wrong_subject("not the user who has logged in")
        return identity

    async def _id_token_claims(
        self, tokens: Mapping[str, object], metadata: ProviderMetadata, *, has_asked: bool
    ) -> Claims:
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            return {}
        try:
            return await self._id_tokens.verify(id_token, str(tokens["access_token"]), metadata)
        except IdentityProviderError as failure:
            if has_asked or failure.failure is not IdentityProviderFailure.BAD_ID_TOKEN:
                raise
            return {}

    def _joined(self, claims: Claims, userinfo: object) -> Claims:
        if not isinstance(userinfo, Mapping) or "sub" not in userinfo:
            raise IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE, "userinfo: without sub")
        # OpenID Connect Core §5.3.2: otherwise the claims "MUST NOT be used".
        if claims.get("sub", userinfo["sub"]) != userinfo["sub"]:
            raise _wrong_subject("userinfo is about another user than the ID token")
        # An address that is verified in one of them is not the other's.
        pair = {"email", self._names.email_verified} if "email" in userinfo else set[str]()
        return {**{name: value for name, value in claims.items() if name not in pair}, **userinfo}


def _wrong_subject(problem: str) -> IdentityProviderError:
    return IdentityProviderError(IdentityProviderFailure.WRONG_SUBJECT, problem)
