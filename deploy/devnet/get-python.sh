#!/bin/sh
# get-python.sh DEST: a Python environment with grpcio-tools in DEST, for the client that the tests generate from proto/.
set -eu
[ $# -eq 1 ] && [ -n "$1" ] || { echo "usage: $0 DEST" >&2; exit 2; }
if "$1/bin/python" -c 'import grpc_tools' 2>/dev/null; then exit 0; fi
# Debian keeps venv's pip in a package of its own (python3-venv).
python3 -m venv "$1" 2>/dev/null || { echo "get-python: no venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
"$1/bin/pip" install --quiet --disable-pip-version-check grpcio==1.76.0 grpcio-tools==1.76.0
"$1/bin/python" -c 'import grpc_tools'
