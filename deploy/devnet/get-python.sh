#!/bin/sh
# get-python.sh DEST: a Python environment in DEST: grpcio-tools for the client that the tests generate from proto/, and other people's
# RFC 8785, JSON Schema and JOSE to hold artefacts against. An environment with other versions is brought up to these.
set -eu
[ $# -eq 1 ] && [ -n "$1" ] || { echo "usage: $0 DEST" >&2; exit 2; }
packages="grpcio==1.76.0 grpcio-tools==1.76.0 joserfc==1.8.0 jsonschema==4.26.0 rfc8785==0.1.4"
ready() {
    "$1/bin/python" - $packages <<'EOF'
import sys
from importlib.metadata import version
import grpc_tools, joserfc.jws, jsonschema, rfc8785
for package in sys.argv[1:]:
    name, wanted = package.split("==")
    assert version(name) == wanted, f"{name} {version(name)}"
EOF
}
if ready "$1" 2>/dev/null; then exit 0; fi
# Debian keeps venv's pip in a package of its own (python3-venv).
python3 -m venv "$1" 2>/dev/null || { echo "get-python: no venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
"$1/bin/pip" install --quiet --disable-pip-version-check $packages
ready "$1"
