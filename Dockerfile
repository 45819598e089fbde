# seed_oauth with its locked dependencies, without root and without pip: docker build -t seed-oauth .

FROM python:3.13.16-slim-trixie AS build
WORKDIR /build
RUN python -m venv --without-pip /opt/seed-oauth
COPY requirements.txt ./
# Wheels only, and only the very files that are locked: nothing is compiled, and no setup script runs.
RUN pip --python /opt/seed-oauth install --no-cache-dir --only-binary=:all: --require-hashes --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip --python /opt/seed-oauth install --no-cache-dir --only-binary=:all: --no-deps .

FROM python:3.13.16-slim-trixie
LABEL org.opencontainers.image.title=seed_oauth \
      org.opencontainers.image.description="An OAuth front door for MCP servers whose flow can be seen" \
      org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.licenses=MIT
# Nothing that runs here installs anything.
RUN pip uninstall --yes --root-user-action=ignore pip && rm -rf /usr/local/lib/python3.13/ensurepip
COPY --from=build /opt/seed-oauth /opt/seed-oauth
# A new volume takes over owner and mode of the folder that it is mounted on.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/seed-oauth
# Both listeners are for the container's network. Publish the port of the front door, never that of the metrics.
ENV PATH=/opt/seed-oauth/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SEED_OAUTH_HOST=0.0.0.0 \
    SEED_OAUTH_PORT=8000 \
    SEED_OAUTH_METRICS_HOST=0.0.0.0 \
    SEED_OAUTH_METRICS_PORT=9464 \
    SEED_OAUTH_STORE_URL=sqlite:////var/lib/seed-oauth/clients.db
# By number, so that Kubernetes sees that it is not root.
USER 10001:10001
WORKDIR /var/lib/seed-oauth
VOLUME /var/lib/seed-oauth
EXPOSE 8000 9464
# Without the proxies that the environment may name: loopback needs none.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD \
    ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['SEED_OAUTH_PORT'] + '/healthz', timeout=2)"]
# What `seed-oauth serve` waits for: requests under way are finished first.
STOPSIGNAL SIGTERM
ENTRYPOINT ["seed-oauth"]
CMD ["serve"]
