# seed_oauth with its locked dependencies: docker build -t seed-oauth .

FROM python:3.13.16-slim-trixie AS build
WORKDIR /build
RUN python -m venv /opt/seed-oauth
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# Wheels only: nothing is compiled, and no setup script runs.
RUN /opt/seed-oauth/bin/pip install --no-cache-dir --only-binary=:all: --constraint constraints.txt .

FROM python:3.13.16-slim-trixie
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
ENTRYPOINT ["seed-oauth"]
CMD ["serve"]
