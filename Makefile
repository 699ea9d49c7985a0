# Each target is one command and sets up what it needs.

H402_DEVNET ?= $(HOME)/.cache/h402-watch/devnet
export H402_DEVNET

.PHONY: demo test lint anvil bitcoind solana devnet python node bench fuzz

## Follow payments on an EVM chain, on Bitcoin and on Solana, on real nodes, to their outcomes.
demo: anvil bitcoind solana
	cargo build --locked
	cargo run --locked --quiet --example demo

## Everything: engine, store, API, black-box tests on real nodes, a client in another language, artefacts in other people's code.
test: devnet python node
	cargo test --locked --workspace

## Formatting, lints, dependencies.
lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	deploy/deny.sh

## The demo's nodes, outside of target/. Solana's is built from crates.io, which takes some minutes the first time.
anvil:
	deploy/devnet/get-anvil.sh $(H402_DEVNET)/anvil

bitcoind:
	deploy/devnet/get-bitcoind.sh $(H402_DEVNET)/bitcoind

solana:
	deploy/devnet/get-solana-node.sh $(H402_DEVNET)/solana

## All development nodes: those, and an Electrum server.
devnet: anvil bitcoind solana
	deploy/devnet/get-electrum-server.sh $(H402_DEVNET)/electrum

## A Python environment for the client that the tests generate from proto/, and for those who check artefacts with it.
python:
	deploy/devnet/get-python.sh $(H402_DEVNET)/python

## The npm packages that check signatures with Node.js.
node:
	deploy/devnet/get-node-jose.sh $(H402_DEVNET)/node

## What it all costs: the engine's own operations, matching, proofs, interests; and the table, beside what people use today and
## beside bare nodes, store and transport (benches/results). Some half an hour.
bench: devnet
	cargo bench --locked --bench engine --bench bitcoin_block --bench proofs --bench interests
	cargo bench --locked --bench side_by_side

## Each fuzz target for a minute.
fuzz:
	deploy/fuzz.sh 60
