# seed_oauth with locked dependencies, without root and pip: docker build -t seed-oauth .

FROM python:3.13.16-slim-trixie AS build
WORKDIR /build
RUN python -m venv --without-pip /opt/seed-oauth
COPY requirements.txt .ci/build-requirements.txt ./
# Wheels with locked hashes only: nothing is compiled, and no setup script runs.
RUN pip --python /opt/seed-oauth install --no-cache-dir --only-binary=:all: --require-hashes --requirement requirements.txt
# The same for the tools that build this package, which stay in this stage.
RUN pip install --no-cache-dir --only-binary=:all: --require-hashes --requirement build-requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir dist .
RUN pip --python /opt/seed-oauth install --no-cache-dir --only-binary=:all: --no-deps dist/*.whl

FROM python:3.13.16-slim-trixie
LABEL org.opencontainers.image.title=seed_oauth \
      org.opencontainers.image.description="An OAuth front door for MCP servers, with metrics of every login" \
      org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.licenses=MIT
# Nothing is installed at runtime.
RUN pip uninstall --yes --root-user-action=ignore pip && rm -rf /usr/local/lib/python3.13/ensurepip
COPY --from=build /opt/seed-oauth /opt/seed-oauth
# A new volume inherits owner and mode of its mount point.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/seed-oauth
# Both listeners are reachable in the container network. Publish only the port of the front door, not that of the metrics.
ENV PATH=/opt/seed-oauth/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SEED_OAUTH_HOST=0.0.0.0 \
    SEED_OAUTH_PORT=8000 \
    SEED_OAUTH_METRICS_HOST=0.0.0.0 \
    SEED_OAUTH_METRICS_PORT=9464 \
    SEED_OAUTH_STORE_URL=sqlite:////var/lib/seed-oauth/clients.db
# Numeric, so that Kubernetes can verify that it is not root.
USER 10001:10001
WORKDIR /var/lib/seed-oauth
VOLUME /var/lib/seed-oauth
EXPOSE 8000 9464
# Ignores proxies from the environment, which cannot reach loopback.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD \
    ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['SEED_OAUTH_PORT'] + '/healthz', timeout=2)"]
# On SIGTERM `seed-oauth serve` drains requests before it exits.
STOPSIGNAL SIGTERM
ENTRYPOINT ["seed-oauth"]
CMD ["serve"]
