#!/bin/bash
# Kafka in the place of apache/kafka, to its documented contract: KAFKA_* become server.properties (`_` is `.`, `__` is
# `_`, `___` is `-`) over those of /mnt/shared/config; CLUSTER_ID formats a new volume; KAFKA_HEAP_OPTS,
# KAFKA_JVM_PERFORMANCE_OPTS, KAFKA_LOG4J_OPTS and KAFKA_OPTS go to the JVM.  The translation is done by Kafka's own class for it.
set -euo pipefail

export CLUSTER_ID=${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}
if [ -z "${KAFKA_LISTENERS-}" ] && [ -n "${KAFKA_ADVERTISED_LISTENERS-}" ]; then
  KAFKA_LISTENERS=$(sed -e 's|://[^:]*:|://0.0.0.0:|g' <<< "$KAFKA_ADVERTISED_LISTENERS")
  export KAFKA_LISTENERS
fi
if [[ ${KAFKA_ADVERTISED_LISTENERS-} =~ SASL_.*:// ]] && [ -z "${KAFKA_OPTS-}" ]; then
  echo "KAFKA_OPTS environment variable not set" >&2
  exit 1
fi

# shellcheck disable=SC2206
java=(java -cp "/opt/kafka/libs/*" ${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=/opt/kafka/log4j2.properties})
set +e
told=$("${java[@]}" -Xmx128m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC kafka.docker.KafkaDockerWrapper setup \
  --default-configs-dir /etc/kafka/docker --mounted-configs-dir /mnt/shared/config --final-configs-dir /opt/kafka/config 2>&1)
failed=$?
set -e
# A volume that has data is in order.
if [ $failed != 0 ] && ! grep -qi "already formatted" <<< "$told"; then
  echo "$told" >&2
  exit 1
fi

# shellcheck disable=SC2086
exec "${java[@]}" ${KAFKA_HEAP_OPTS:--Xms1G -Xmx1G} ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseG1GC} \
  -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true ${KAFKA_OPTS-} kafka.Kafka /opt/kafka/config/server.properties
