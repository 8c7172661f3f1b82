# pbx-operator: `make help` lists what there is to do. Every target installs or builds what it needs.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# One setting for builds and tests, so that they share the build cache.
export CGO_ENABLED := 0
# -L: a link in bin is as old as itself, not as what it leads to.
MAKEFLAGS += --no-print-directory -L

BIN := $(CURDIR)/bin
CLUSTER := go run -C $(CURDIR)/hack/cluster .

# `make e2e KUBECONFIG=FILE` and `make demo KUBECONFIG=FILE` use a cluster of yours, which has or can pull the images named by
# MANAGER_IMAGE, RECEIVER_IMAGE and PBXSIM_IMAGE. A KUBECONFIG that is merely set in the environment is not touched.
ifeq ($(origin KUBECONFIG),command line)
OWN_CLUSTER := yes
else
OWN_CLUSTER :=
KUBECONFIG = $(or $(PBX_CLUSTER_STATE_DIR),/var/lib/pbx-operator-cluster)/kubeconfig
endif
export KUBECONFIG

##@ Use

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: cluster-up images $(BIN)/helm $(BIN)/kubectl ## Show it: a cluster, the operator, four simulated PBXs, calls, and their legs.
	@hack/demo/demo

.PHONY: demo-down
demo-down: $(BIN)/kubectl $(BIN)/helm ## Remove what the demo made; leave the cluster and all else in it.
	@hack/demo/down

.PHONY: cluster-up
cluster-up: ## Start a real single-node Kubernetes on this machine, unless it runs already.
ifndef OWN_CLUSTER
	@$(CLUSTER) up
endif

.PHONY: cluster-down
cluster-down: ## Stop it and remove all of it but the built binaries.
	@$(CLUSTER) down

.PHONY: install
install: cluster-up images $(BIN)/helm $(BIN)/kubectl ## Install the operator from its chart into the cluster.
	@hack/demo/install

##@ Prove

.PHONY: test
test: ## Everything that proves that it works: verify, unit, envtest, e2e.
	@hack/parts verify unit envtest e2e

.PHONY: unit
unit: $(BIN)/helm ## Pure tests, and tests of processes on this machine.
	@echo "== unit tests"
	@go vet $(PLAIN)
	@go test -timeout 20m $(PLAIN)
	@go test -C hack/cluster ./...

.PHONY: envtest
envtest: $(BIN)/helm ## Suites against a real etcd and kube-apiserver.
	@echo "== envtest suites"
	@KUBEBUILDER_ASSETS="$$($(CLUSTER) envtest)" go test -timeout 25m $(SUITES)

.PHONY: e2e
e2e: install ## The end-to-end suite on a real cluster.
	@echo "== end-to-end suite"
	@CLUSTER_COMMAND="$(if $(OWN_CLUSTER),,$(CLUSTER))" hack/e2e/run

.PHONY: fuzz
fuzz: ## Fuzz every decoder for FUZZTIME each (default 1m).
	@hack/fuzz $(or $(FUZZTIME),1m)

.PHONY: bench
bench: ## The numbers that the project promises, as ratios measured in one run.
	@KUBEBUILDER_ASSETS="$$($(CLUSTER) envtest)" go run ./hack/bench

# Ginkgo suites stand beside a suite_test.go; all other packages hold plain tests.
SUITES = $(shell find api controllers receiver -name suite_test.go -printf './%h\n' | sort)
PLAIN = $(filter-out $(SUITES:./%=$(MODULE)/%) $(MODULE)/hack/e2e,$(shell go list ./...))
MODULE := github.com/pbx-operator/pbx-operator

##@ Change

.PHONY: generate
generate: ## Generate deepcopy code, CRDs, RBAC, and the chart's copies of them.
	@mkdir -p $(BIN) && go build -C hack/tools -o $(BIN)/controller-gen sigs.k8s.io/controller-tools/cmd/controller-gen
	$(BIN)/controller-gen object crd paths=./api/... output:crd:dir=config/crd/bases
	$(BIN)/controller-gen rbac:roleName=pbx-operator-manager paths=./controllers/... output:rbac:dir=config/rbac
	mkdir -p charts/pbx-operator/files/crds
	cp config/crd/bases/*.yaml charts/pbx-operator/files/crds/
	cp config/rbac/role.yaml charts/pbx-operator/files/role.yaml

.PHONY: lint
lint: ## Lint, with kube-api-linter for the API.
	@mkdir -p $(BIN)
	@echo "== lint (the first build of the linter takes minutes)"
	@go build -C hack/tools -o $(BIN)/golangci-lint ./golangci-lint
	$(BIN)/golangci-lint run ./...
	cd hack/cluster && $(BIN)/golangci-lint run ./...

.PHONY: verify
verify: generate lint chart ## Check that generated files are current, lint, render the chart.
	@go mod tidy -diff >/dev/null || { echo "go.mod or go.sum is not tidy. Run go mod tidy and commit the result."; exit 1; }
	@test -z "$$(git status --porcelain -- api config/crd config/rbac charts)" || { \
	  git --no-pager diff --stat -- api config/crd config/rbac charts; git status --short -- api config/crd config/rbac charts; \
	  echo "Generated files are not current, or not committed. Run make generate and commit the result."; exit 1; }

.PHONY: chart
chart: $(BIN)/helm ## Lint and render the chart.
	@$(BIN)/helm lint --quiet charts/pbx-operator
	@go test ./charts

##@ Build

.PHONY: build
build: ## Build the binaries into bin/.
	@mkdir -p $(BIN)
	go build -ldflags="-s -w" -o $(BIN)/manager ./controllers
	go build -ldflags="-s -w" -o $(BIN)/receiver ./receiver
	go build -ldflags="-s -w" -o $(BIN)/pbxsim ./hack/pbxsim

.PHONY: images
images: cluster-up ## Build images and load them into the cluster of cluster-up. Their tags follow from their content.
ifndef OWN_CLUSTER
	@$(MAKE) build
	@: > $(BIN)/images.env
	@for name in manager receiver pbxsim; do \
	  tag="pbx-operator/$$name:dev-$$(sha256sum $(BIN)/$$name | cut -c1-12)"; \
	  $(CLUSTER) load "$$tag" $(BIN)/$$name; \
	  echo "export $${name^^}_IMAGE=$$tag" >> $(BIN)/images.env; \
	done
else
	@mkdir -p $(BIN)
	@printf 'export %s\n' "MANAGER_IMAGE=$(MANAGER_IMAGE)" "RECEIVER_IMAGE=$(RECEIVER_IMAGE)" "PBXSIM_IMAGE=$(PBXSIM_IMAGE)" > $(BIN)/images.env
endif

$(BIN)/helm $(BIN)/kubectl: hack/cluster/components/go.mod
	@mkdir -p $(BIN)
	@ln -sfn "$$($(CLUSTER) build $(@F))/$(@F)" $@
