# Each target is one command and sets up what it needs.

H402_DEVNET ?= $(HOME)/.cache/h402-watch/devnet
export H402_DEVNET

.PHONY: demo test lint devnet python fuzz

## Follow eight payments on a real node to their outcomes.
demo: devnet
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

## The development nodes, outside of target/.
devnet:
	deploy/devnet/get-anvil.sh $(H402_DEVNET)/anvil

## A Python environment for the client that the tests generate from proto/.
python:
	deploy/devnet/get-python.sh $(H402_DEVNET)/python

## Each fuzz target for a minute.
fuzz:
	deploy/fuzz.sh 60
