#!/bin/sh
# get-node-jose.sh DEST: the npm packages of tests/node in DEST, as its package-lock.json has them.
set -eu
[ $# -eq 1 ] && [ -n "$1" ] || { echo "usage: $0 DEST" >&2; exit 2; }
from=$(cd "$(dirname "$0")/../../tests/node" && pwd)
node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2>/dev/null ||
    { echo "get-node-jose: Node.js 20 or newer is needed (Debian: apt-get install nodejs npm)" >&2; exit 1; }
ready() { cmp -s "$from/package-lock.json" "$1/package-lock.json" && (cd "$1" && node -e 'import("jose")' 2>/dev/null); }
if ready "$1"; then exit 0; fi
mkdir -p "$1"
cp "$from/package.json" "$from/package-lock.json" "$1/"
(cd "$1" && npm ci --silent --ignore-scripts --no-audit --no-fund)
ready "$1"
