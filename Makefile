# Everything that this needs is Go, make and git, and `make image` one of docker, podman and buildah. Tools are built from the Go module
# proxy, at the versions that the small modules under e2e/tools pin.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := $(CURDIR)/bin
LAB_BIN := $(BIN)/lab
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO_BUILD := CGO_ENABLED=0 go build -buildvcs=false
# Tests that start an API server find its binary here.
export KUBEBUILDER_ASSETS := $(LAB_BIN)
TEST_FLAGS ?= -timeout 40m

.PHONY: help
help: ## Show this text
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z0-9_-]*:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: plugin ## Build the controller into bin/sluice, and the plugin
	$(GO_BUILD) -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/sluice ./cmd/sluice

.PHONY: plugin
plugin: require-go ## Build the plugin of kubectl into bin/kubectl-sluice
	$(GO_BUILD) -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/kubectl-sluice ./cmd/kubectl-sluice

# A docker whose daemon does not answer is passed over.
BUILDER ?= $(shell docker info >/dev/null 2>&1 && echo docker || command -v podman || command -v buildah)
# Where systems keep the certificates of the authorities that they trust.
ROOTS ?= $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem))

.PHONY: image
image: require-go ## Build an image of the controller (IMAGE=registry.example.com/sluice:0.1.0), with docker, podman or buildah
	@test -n "$(IMAGE)" || { echo "say which: make image IMAGE=registry.example.com/sluice:0.1.0"; exit 1; }
	@test -n "$(BUILDER)" || { echo "none of docker (with its daemon), podman and buildah is there: install one of them"; exit 1; }
	@test -n "$(ROOTS)" || { echo "no certificates of authorities found on this machine: say where, make image ROOTS=FILE"; exit 1; }
	rm -rf $(BIN)/image && mkdir -p $(BIN)/image && install -m 644 $(ROOTS) $(BIN)/image/ca-certificates.crt
	GOOS=linux $(GO_BUILD) -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/image/sluice ./cmd/sluice
	chmod 755 $(BIN)/image/sluice
	$(BUILDER) build --platform linux/$$(go env GOARCH) --tag $(IMAGE) --file Dockerfile $(BIN)/image

.PHONY: demo
demo: build lab-binaries ## Show the main job on the lab: micro-api promoted, kubia refused, rolled back, promoted (DEMO_FLAGS=--keep)
	@cd e2e && go build -buildvcs=false -o $(BIN)/demo ./demo && exec $(BIN)/demo --repo $(CURDIR) $(DEMO_FLAGS)

.PHONY: lab
lab: build lab-binaries ## Start the lab alone and print how to reach it; Ctrl-C stops it
	@cd e2e && go build -buildvcs=false -o $(BIN)/lab-up ./lab/cmd/lab && exec $(BIN)/lab-up up

.PHONY: lab-binaries
lab-binaries: require-go ## Build what the lab runs: etcd, kube-apiserver, istiod, Prometheus (once: about 12 minutes)
	@cd e2e && go run ./lab/cmd/lab binaries

.PHONY: test
test: test-unit test-e2e ## Run every test that needs no real cluster, the lab ones included

.PHONY: test-unit
test-unit: lab-binaries ## Run unit, property, golden and API-server tests
	@# -parallel: those with an API server wait for it.
	go test $(TEST_FLAGS) -parallel 4 ./...

.PHONY: test-e2e
test-e2e: build lab-binaries ## Run the end-to-end tests on the lab
	@# -count=1: go's test cache does not see the binaries, the chart and the examples that these tests use. -parallel: they wait more
	@# than they work.
	cd e2e && go test $(TEST_FLAGS) -count=1 -p 1 -parallel 4 ./...

.PHONY: fuzz
fuzz: require-go ## Fuzz every parser for ten seconds each
	@go list ./... | while read -r pkg; do \
		go test -list '^Fuzz' "$$pkg" | grep '^Fuzz' | while read -r f; do go test -run '^$$' -fuzz "^$$f$$" -fuzztime 10s "$$pkg"; done; \
	done

.PHONY: bench
bench: require-go ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-gates
bench-gates: require-go ## Release good and bad versions under Sluice, Flagger and Argo, simulated (SEED=1 REPS=200 RUN=regexp)
	@go run ./controllers/simulation/bench-gates $(if $(SEED),-seed $(SEED)) $(if $(REPS),-reps $(REPS)) $(if $(RUN),-run '$(RUN)')

.PHONY: golden
golden: ## Rewrite golden files; commit only what you can explain
	go test ./controllers/shim ./controllers/plan ./controllers/trafficshift ./cmd/internal/view -update
	cd e2e && go test ./chart -update

.PHONY: generate
generate: $(BIN)/controller-gen ## Generate deepcopy code, the CRDs and their reference page, and copy what the chart carries
	go run ./api/generate api/v1alpha1/trafficshift_types.go api/v1alpha1/zz_generated.shiftdefaults.go
	$(BIN)/controller-gen object paths=./api/...
	$(BIN)/controller-gen crd paths=./api/... output:crd:dir=manifests/crd
	$(MAKE) --no-print-directory reference chart-files

.PHONY: reference
reference: $(BIN)/crd-ref-docs
	$(BIN)/crd-ref-docs --log-level=ERROR --source-path=api --config=e2e/tools/reference/config.yaml \
		--templates-dir=e2e/tools/reference/templates --renderer=markdown --output-path=docs/api.md

.PHONY: chart-files
chart-files: require-go
	go run ./manifests/dashboards/generate manifests/dashboards
	rm -f manifests/chart/sluice/files/crd/* manifests/chart/sluice/files/dashboards/*
	cp manifests/crd/*.yaml manifests/chart/sluice/files/crd/
	cp manifests/dashboards/*.json manifests/chart/sluice/files/dashboards/

.PHONY: verify
verify: generate ## Fail if anything generated is out of date
	@git diff --exit-code -- api manifests docs/api.md || { echo "generated files are out of date: run 'make generate' and commit"; exit 1; }
	@test -z "$$(git status --porcelain -- api manifests docs/api.md)" || { git status --short -- api manifests docs/api.md; echo "generated files are not committed"; exit 1; }

.PHONY: lint
lint: $(BIN)/golangci-lint ## Run the linters over both modules
	$(BIN)/golangci-lint run ./...
	cd e2e && $(BIN)/golangci-lint run --config $(CURDIR)/.golangci.yml ./...

.PHONY: tidy
tidy: require-go ## Tidy every module
	go mod tidy
	cd e2e && go mod tidy
	for m in e2e/tools/*/; do (cd $$m && go mod tidy); done

.PHONY: presubmit
presubmit: ## Run everything that CI runs
	.ci/run

.PHONY: clean
clean: ## Remove bin/
	rm -rf $(BIN)

.PHONY: require-go
require-go:
	@command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer (https://go.dev/doc/install)"; exit 1; }

$(BIN)/controller-gen: e2e/tools/codegen/go.mod | require-go
	CGO_ENABLED=0 go build -C e2e/tools/codegen -buildvcs=false -ldflags "-s -w " -o $@ sigs.k8s.io/controller-tools/cmd/controller-gen

$(BIN)/crd-ref-docs: e2e/tools/reference/go.mod | require-go
	CGO_ENABLED=0 go build -C e2e/tools/reference -buildvcs=false -ldflags "-s -w " -o $@ github.com/elastic/crd-ref-docs

$(BIN)/golangci-lint: e2e/tools/lint/go.mod | require-go
	CGO_ENABLED=0 go build -C e2e/tools/lint -buildvcs=false -ldflags "-s -w " -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
