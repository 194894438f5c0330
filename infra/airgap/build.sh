#!/usr/bin/env bash
# Build every image of the stack on a host that reaches package registries only; a second time from cached layers.
#   make secrets && infra/airgap/build.sh && docker compose -f docker-compose.yml -f compose.airgap.yml up --wait
set -euo pipefail
cd "$(dirname "$0")/../.."

infra/airgap/base.sh
# One service for each image: the others take it by its tag.
[ $# -gt 0 ] || set -- zookeeper kafka postgres druid-coordinator flink-jobmanager kafka-init
exec docker compose --file docker-compose.yml --file compose.airgap.yml build "$@"
