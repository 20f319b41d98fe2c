# Two commands matter: `make demo` and `make test`. Both prepare what they need by themselves.
.PHONY: help demo test lint soak bench install uninstall wheels clean
.DEFAULT_GOAL := help

RUN := tools/env .venv/bin/python

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## watch a clan of three real daemons form on this machine; KEEP=1 leaves it up
	@tools/bootstrap
	@tools/env .venv/bin/clanctl demo $(if $(filter-out 0 no false,$(KEEP)),--keep)

test: ## run the checks of the code and all test tiers
	@tools/bootstrap --test
	@tests/run

lint: ## run the checks of the code alone
	@tools/bootstrap --test
	@tests/run static

soak: ## run hostile schedules (SOAK_SCHEDULES), hours at 10 % loss (SOAK_NODE_HOURS), faults of activations (SOAK_FAULTS from SOAK_FAULT on), upgrades of the daemon (SOAK_UPGRADES from SOAK_UPGRADE on), all tests again and again (SOAK_MINUTES); 0 is none
	@tools/bootstrap --test
	@tests/soak

bench: ## measure, and compare with the targets
	@tools/bootstrap
	@status=0; for name in $(BENCHES); do $(RUN) -m bench.$$name --check || status=1; done; exit $$status

BENCHES := demo footprint rollout garbage expel rotation nat_matrix relay throughput siege path_faults steering gossip_vs_serf sim_scale

install: ## as root: install daemon and commands (NO_START=1 starts nothing; WHEELS=dir needs no network)
	@tools/install install $(if $(filter-out 0 no false,$(NO_START)),--no-start) $(if $(WHEELS),--wheels "$(WHEELS)")

uninstall: ## as root: take all of it away again, but for the state in /var/lib/clanmesh
	@tools/install uninstall

wheels: ## download the packages for `make install WHEELS=wheels` on a machine without a network
	@tools/install wheels

clean: ## remove what the commands above have made in this checkout
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist wheels
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
