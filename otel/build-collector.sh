#!/usr/bin/env bash
# Builds the Collector of builder.yaml into ~/.cache/seed-oauth for the tests. Requires Go and takes minutes.
set -euo pipefail
cd "$(dirname "$0")"
manifest=$(sha256sum builder.yaml | cut -c1-16)
target="$HOME/.cache/seed-oauth/otelcol-$manifest"
[ -x "$target" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
GOBIN="$work" go install go.opentelemetry.io/collector/cmd/builder@v0.158.0
sed "s|^  output_path: .*|  output_path: $work/out|" builder.yaml > "$work/builder.yaml"
"$work/builder" --config "$work/builder.yaml"
mkdir -p "$(dirname "$target")"
cp "$work/out/otelcol-seed-oauth" "$target"
