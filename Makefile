# Each target is one command and sets up what it needs.

H402_DEVNET ?= $(HOME)/.cache/h402-watch/devnet
export H402_DEVNET

.PHONY: demo test lint anvil devnet python fuzz

## Follow eight payments on a real node to their outcomes.
demo: anvil
	cargo build --locked
	cargo run --locked --quiet --example demo

## Everything: engine, store, API, black-box tests on a real node, a client in another language.
test: devnet python
	cargo test --locked --workspace

## Formatting, lints, dependencies.
lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	deploy/deny.sh

## The demo's node, outside of target/.
anvil:
	deploy/devnet/get-anvil.sh $(H402_DEVNET)/anvil

## All development nodes: anvil, and Debian's bitcoind with an Electrum server.
devnet: anvil
	deploy/devnet/get-bitcoind.sh $(H402_DEVNET)/bitcoind
	deploy/devnet/get-electrum-server.sh $(H402_DEVNET)/electrum

## A Python environment for the client that the tests generate from proto/.
python:
	deploy/devnet/get-python.sh $(H402_DEVNET)/python

## Each fuzz target for a minute.
fuzz:
	deploy/fuzz.sh 60
