#!/bin/sh
# get-solana-node.sh DEST: an offline Solana node (surfpool behind deploy/devnet/solana/src/main.rs) as DEST/solnode.
# Builds from crates.io, 978 packages: about 7 minutes on 2 cores, and 2 GB that are removed afterwards. Does nothing while
# DEST holds one made from the same sources.
set -eu
[ $# -eq 1 ] && [ -n "$1" ] || { echo "usage: $0 DEST" >&2; exit 2; }
source=$(cd "$(dirname "$0")/solana" && pwd -P)
mkdir -p "$1"
dest=$(cd "$1" && pwd -P)
# one at a time per DEST (the lock goes with the process)
if command -v flock >/dev/null 2>&1; then
    exec 9>"$dest/.lock"
    flock -w 3600 9 || { echo "get-solana-node: another run holds $dest/.lock" >&2; exit 1; }
fi
stamp=$(cd "$source" && cat Cargo.toml Cargo.lock src/*.rs | sha256sum | cut -d' ' -f1)
if [ -x "$dest/solnode" ] && [ "$(cat "$dest/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
# In its own folder, where Cargo finds its lock file.
(cd "$source" && CARGO_TARGET_DIR="$dest/build" cargo build --quiet --locked)
rm -f "$dest/stamp"
cp "$dest/build/debug/solnode" "$dest/solnode.new"
mv "$dest/solnode.new" "$dest/solnode"
echo "$stamp" > "$dest/stamp"
rm -rf "$dest/build"
