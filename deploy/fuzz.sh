#!/bin/sh
# fuzz.sh SECONDS: each fuzz target for that long. Installs cargo-fuzz outside of target/ on first use.
set -eu
seconds="${1:-60}"
cache="${H402_DEVNET:-$HOME/.cache/h402-watch/devnet}"
PATH="$cache/tools/bin:$PATH"
command -v cargo-fuzz >/dev/null 2>&1 || cargo install --quiet --locked --root "$cache/tools" cargo-fuzz
# Coverage counters are unstable in the compiler; sanitizers are left out, since there is no unsafe code of ours to watch.
export RUSTC_BOOTSTRAP=1
for target in watch_spec node_answers bitcoind_says solana_says texts config evidence; do
    mkdir -p "fuzz/corpus/$target"
    # What is found goes into the first folder.
    set -- "fuzz/corpus/$target"
    [ "$target" != evidence ] || set -- "$@" proto/artefacts/vectors/accepted
    cargo fuzz run --sanitizer none "$target" "$@" -- -max_total_time="$seconds" -max_len=65536 -print_final_stats=1
done
