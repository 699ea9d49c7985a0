#!/bin/sh
# deny.sh: licences, sources, bans and advisories of all dependencies. Installs cargo-deny outside of target/ on first use.
set -eu
tools="${H402_DEVNET:-$HOME/.cache/h402-watch/devnet}/tools"
PATH="$tools/bin:$PATH"
command -v cargo-deny >/dev/null 2>&1 || cargo install --quiet --locked --root "$tools" cargo-deny --version 0.20.2
deny="cargo deny --config .cargo/deny.toml --locked"
$deny check licenses bans sources
# The advisory database is a Git repository. Where it can't be reached nothing is known, which must not look like "fine".
if $deny fetch db 2>/dev/null; then
    $deny check advisories
else
    echo "deny: ADVISORIES WERE NOT CHECKED: https://github.com/RustSec/advisory-db can't be reached from here" >&2
    [ "${H402_REQUIRE_ADVISORIES:-0}" = 0 ]
fi
