"""django-oauth-toolkit in a Django project, as a program: an identity provider whose access tokens are opaque.

Its only argument is JSON with the `port`, the `client` (a confidential one, with `client_id`, `client_secret` and
`redirect_uris`), the `user` (`username` and `password`) and the `scope` that the client may ask for. What RFC 9700 asks
for and the library leaves to a setting is on.
"""

import json
import sys
from wsgiref.simple_server import make_server

import django
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

LOGIN_PAGE = "<form method='post'>{% csrf_token %}{{ form }}<button>Log in</button></form>"

given = json.loads(sys.argv[1])
issuer = f"http://127.0.0.1:{given['port']}"
signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
        "oauth2_provider",
    ],
    LOGIN_URL="/login/",
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    OAUTH2_PROVIDER={
        "SCOPES": {"openid": "Know who you are", given["scope"]: "Call tools"},
        "OIDC_ENABLED": True,
        "OIDC_ISS_ENDPOINT": issuer,
        "OIDC_RSA_PRIVATE_KEY": signing_key.decode(),
        "ALLOWED_SCHEMES": ["http"],
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
        "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
        "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
        "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
        "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
        "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY="a key for the tests alone",
    STATIC_URL="/static/",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN_PAGE}),
                    "django.template.loaders.app_directories.Loader",
                ]
            },
        }
    ],
    USE_TZ=True,
)
django.setup()
urlpatterns = [path("", include("oauth2_provider.urls")), path("", include("django.contrib.auth.urls"))]

if __name__ == "__main__":
    from django.contrib.auth import get_user_model
    from oauth2_provider.models import get_application_model

    call_command("migrate", verbosity=0)
    get_user_model().objects.create_user(**given["user"])
    application = get_application_model()
    application.objects.create(
        client_id=given["client"]["client_id"],
        client_secret=given["client"]["client_secret"],
        redirect_uris=" ".join(given["client"]["redirect_uris"]),
        client_type=application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=application.GRANT_AUTHORIZATION_CODE,
        algorithm=application.RS256_ALGORITHM,
        name="The front door",
    )
    make_server("127.0.0.1", given["port"], get_wsgi_application()).serve_forever()
