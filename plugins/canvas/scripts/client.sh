#!/usr/bin/env bash
# Writes src/api/schema.d.ts, the types of the plugin's routes: scripts/client.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
document=$(mktemp --suffix .json)
trap 'rm -f "$document"' EXIT
digest=$("$1" -m modelmill_plugin.openapi "$document" | tail -n 1)
node node_modules/openapi-typescript/bin/cli.js "$document" -o src/api/schema.d.ts
sed -i "1i // OpenAPI $digest" src/api/schema.d.ts
