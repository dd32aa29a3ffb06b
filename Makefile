# SPDX-License-Identifier: GPL-3.0-or-later
# Where there is no make yet: ./demo, ./check.

bin = .venv/bin
enter = tests/testbed/enter

SEED = 1
N = 200

.PHONY: help demo demo-stop check fresh lint unit scheme libvirt campaign e2e bench setup venv

help:
	@sed -n 's/^## //p' Makefile

## make demo       deploy an example machine and show it running
demo:
	@./demo

## make demo-stop  remove what the demo made
demo-stop:
	@./demo --stop

## make check      set up all that is needed and run every test
check:
	@./check

## make fresh      try both, as the README says them, on a Debian that holds nothing
fresh: setup
	tests/fresh/test

## make lint       ruff and mypy
lint: venv
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

## make unit       the tests that need neither guix nor libvirt
unit: venv
	$(bin)/pytest tests/unit

## make scheme     the tests of the Scheme side
scheme: setup
	$(enter) tests/scheme/run

## make libvirt    the tests against a real libvirtd
libvirt: setup
	$(enter) $(bin)/pytest tests/libvirt

## make campaign   N random acts of operators and others, from SEED on, and what is wrong after them
campaign: setup
	PYTHONPATH=tests/libvirt $(enter) $(bin)/python -m campaign $(SEED) $(N)

## make e2e        the tests that build and boot real Guix systems
e2e: setup
	$(enter) $(bin)/pytest tests/e2e

## make bench      compare with the underlying tools by hand
bench: setup
	$(enter) $(bin)/python tests/bench/run.py

## make setup      install all that this takes, and the test bed (Debian 12, as root)
setup:
	@tests/prepare || [ $$? -eq 69 ]

venv:
	@tests/venv
