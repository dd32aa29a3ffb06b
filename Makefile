# SPDX-License-Identifier: GPL-3.0-or-later
# What a person types on a fresh machine: `make demo`, or `make check`.

PYTHON ?= python3
venv = .venv
bin = $(venv)/bin
enter = tests/testbed/enter

.PHONY: help demo demo-stop check lint unit scheme libvirt e2e bench setup clean

help:
	@sed -n 's/^## //p' Makefile

## make demo       deploy an example machine and show it running
demo: $(venv)/installed
	tests/demo

## make demo-stop  remove what the demo made
demo-stop:
	tests/demo --stop

## make check      set up all that is needed and run every test
check: setup $(venv)/installed
	tests/check

## make lint       ruff and mypy
lint: $(venv)/installed
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

## make unit       the tests that need neither guix nor libvirt
unit: $(venv)/installed
	$(bin)/pytest tests/unit

## make scheme     the tests of the Scheme side
scheme: setup
	$(enter) tests/scheme/run

## make libvirt    the tests against a real libvirtd
libvirt: setup $(venv)/installed
	$(enter) $(bin)/pytest tests/libvirt

## make e2e        the tests that build and boot real Guix systems
e2e: setup $(venv)/installed
	$(enter) $(bin)/pytest tests/e2e

## make bench      compare with the underlying tools by hand
bench: setup $(venv)/installed
	$(enter) $(bin)/python tests/bench/run.py

## make setup      install the test bed (Debian 12, as root)
setup:
	tests/testbed/setup || [ $$? -eq 69 ]

$(venv)/installed: pyproject.toml
	$(PYTHON) -m venv $(venv)
	$(bin)/pip install --quiet --upgrade pip
	$(bin)/pip install --quiet --editable '.[dev]'
	touch $@
