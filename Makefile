# Two commands: `make demo` shows netc at work in namespaces of its own, `make test` runs every test that can run here.
# Both first install what is missing: distribution packages (root on Debian or a relative), and a virtual environment in .venv.

PACKAGES := python3-venv python3-bpfcc python3-nftables nftables iproute2 ethtool strace
READY := .venv/.netc-ready
POLICY := policies/edge.netc

# What netdevsim is built with.
RACK_PACKAGES := gcc-12 binutils xz-utils util-linux
RACK_RESULTS := build/rack

define install
missing=; for package in $(1); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then \
	  command -v apt-get >/dev/null || { echo "install these by hand, there is no apt-get:$$missing" >&2; exit 1; }; \
	  [ "$$(id -u)" = 0 ] || { echo "missing:$$missing; as root: apt-get install$$missing" >&2; exit 1; }; \
	  echo "installing:$$missing"; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi
endef

.PHONY: help demo test test-long rack rack-part rack-packages lint clean

help:
	@echo "make demo    install what is missing, then: a lab, a policy, its traffic, verified counters (root)"
	@echo "make test    install what is missing, then: every test that can run here"
	@echo "make test-long  the tests that take hours: every system call cut short, each fuzzer for FUZZ_SECONDS (3600) (root)"
	@echo "make rack    fetch a stock kernel and QEMU, boot them, and run the hardware tests on real drivers: igb, virtio_net, vmxnet3, e1000e, netdevsim (root)"
	@echo "make rack-part  a part of it that takes 4 minutes at most where nothing else runs: a probe, a filter and a steering on each driver (root)"
	@echo "make lint    ruff and mypy"
	@echo "make clean   remove .venv and caches"

demo: $(READY)
	@[ "$$(id -u)" = 0 ] || { echo "make demo makes network namespaces and loads BPF programs: run it as root" >&2; exit 1; }
	@.venv/bin/netc lab demo $(POLICY)

test: $(READY)
	@[ "$$(id -u)" = 0 ] || echo "not root: tests of the kernel will be skipped, and counted as skipped"
	@.venv/bin/ruff check .; style=$$?; .venv/bin/python -m pytest -n 2 && exit $$style

test-long: $(READY)
	@.venv/bin/python -m pytest -m long -s

rack-packages:
	@$(call install,$(RACK_PACKAGES))

rack-part: $(READY) rack-packages
	@.venv/bin/python -m hwtests.virtual part

rack: $(READY)
	@[ "$$(id -u)" = 0 ] || { echo "make rack gives virtio several queues by taps in network namespaces: run it as root" >&2; exit 1; }
	@$(call install,$(RACK_PACKAGES))
	@.venv/bin/python -m hwtests.virtual fetch
	@.venv/bin/python -m pytest hwtests --rack virtual -n 2 --results $(RACK_RESULTS); status=$$?; \
	  .venv/bin/netc rack report $(RACK_RESULTS) -o $(RACK_RESULTS)/report.html --junit $(RACK_RESULTS)/junit.xml --ktap $(RACK_RESULTS)/results.ktap \
	    && echo "report: $(RACK_RESULTS)/report.html" || [ $$status != 0 ] || status=1; \
	  exit $$status

lint: $(READY)
	@.venv/bin/ruff check .
	@.venv/bin/mypy compiler runtime

# editable_mode=compat: a path instead of an import hook, which every start of netc would wait for 10 ms.
# bcc and nftables come from the distribution (the bcc on PyPI is another project), so the environment sees the system's packages.
$(READY): pyproject.toml
	@$(call install,$(PACKAGES))
	@.venv/bin/python -c 'import bcc, nftables' 2>/dev/null || { echo "making .venv"; /usr/bin/python3 -m venv --clear --system-site-packages .venv; }
	@.venv/bin/python -c 'import bcc, nftables' || { echo "python3-bpfcc and python3-nftables do not fit /usr/bin/python3" >&2; exit 1; }
	@echo "installing netc into .venv"
	@.venv/bin/python -m pip install --disable-pip-version-check --quiet --config-settings editable_mode=compat --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find compiler runtime tests -name __pycache__ -type d -prune -exec rm -rf {} +
