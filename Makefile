# `make` alone prints what there is.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= 0.1.0
TIME  ?= 30s
COUNT ?= 3
TESTS ?=

# Runs a command with a private PostgreSQL, which it starts before and stops after.
POSTGRES := go run ./internal/store/storetest/pgserver --

.PHONY: help run build cluster test check race soak fuzz bench doc fmt interop specs deb

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build, and serve with registration open to everybody who can reach this machine
	bin/starling serve --open-registration

build: ## bin/starling
	CGO_ENABLED=0 go build -trimpath -ldflags='-X main.release=$(VERSION)' -o bin/starling ./cmd/starling

cluster: build ## three nodes of one cluster on this machine until Ctrl-C, with PostgreSQL if it is installed
	@if command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then \
		go run ./internal/store/storetest/pgserver -fsync -- deploy/trial/cluster; \
	else deploy/trial/cluster; fi

test: ## every test on SQLite and PostgreSQL with the race detector, then the allocation guards without it
	$(POSTGRES) go test -race -shuffle=on -timeout=20m ./...
	go test -run='Alloc|Guard' ./...

check: build ## formatting, go vet, the style test, build
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go test -count=1 ./internal/tidy/...

race: ## the race pass COUNT times (3), to find tests that fail now and then
	$(POSTGRES) go test -race -shuffle=on -count=$(COUNT) -timeout=60m ./...

soak: ## the long variants of the cluster's scenarios, one by one, as root on a quiet machine (20 minutes)
	$(POSTGRES) test/soak $(TESTS)

# Go's fuzzer sometimes reports the end of its time as "context deadline exceeded": no failure of ours.
fuzz: ## every fuzz target for TIME (30s) each
	@go test -list='^Fuzz' ./... \
	| awk '/^Fuzz/ {name[++n] = $$1} /^ok/ {for (i = 1; i <= n; i++) print $$2, name[i]; n = 0}' \
	| while read -r package name; do \
		echo "== $$package $$name"; \
		out=$$(mktemp); \
		go test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(TIME) "$$package" </dev/null 2>&1 | tee "$$out" || \
			{ grep -q 'context deadline exceeded' "$$out" && ! grep -q 'Failing input' "$$out"; } || exit 1; \
		rm -f "$$out"; \
	done

bench: build ## every benchmark, then Starling, a relay and the installed peers side by side: bench/RESULTS.md
	$(POSTGRES) go test -run='^$$' -bench=. -benchmem -timeout=60m ./...
	go run ./bench/run
	go run ./bench/cluster

doc: build ## rewrite the generated pages of doc/
	bin/starling doc
	go test ./internal/tidy -run=TestRepository/dependencies -update

fmt: ## format the Go code
	gofmt -w .

interop: build ## foreign clients and servers against bin/starling
	test/interop/run

specs: ## rewrite the index of specifications from the texts in the folder SPECS
	@[ -n "$(SPECS)" ] || { echo "usage: make specs SPECS=folder, with rfcNNNN.txt and xep-NNNN.md"; exit 2; }
	go run ./internal/tidy/specindex "$(SPECS)"

deb: build ## a Debian package in dist/
	deploy/deb/build $(VERSION)
