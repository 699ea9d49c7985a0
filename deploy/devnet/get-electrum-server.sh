#!/bin/sh
# get-electrum-server.sh DEST: an Electrum server (e-x, the maintained ElectrumX) from PyPI into a Python environment in DEST.
# 1.20.0 is the newest that works with a bitcoind of version 29 (2.0 wants 31). The node must run with -txindex=1.
# Not the package "electrumX", which is another fork and knows no Bitcoin regtest.
set -eu
[ $# -eq 1 ] && [ -n "$1" ] || { echo "usage: $0 DEST" >&2; exit 2; }
if "$1/bin/python" -c 'import electrumx, plyvel; assert electrumx.__version__ == "1.20.0"' 2>/dev/null; then exit 0; fi
# Debian keeps venv's pip in a package of its own (python3-venv).
python3 -m venv "$1" 2>/dev/null || { echo "get-electrum-server: no venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
"$1/bin/pip" install --quiet --disable-pip-version-check e-x==1.20.0 plyvel==1.5.1
"$1/bin/python" -c 'import electrumx, plyvel; assert electrumx.__version__ == "1.20.0"'
