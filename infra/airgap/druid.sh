#!/bin/bash
# Druid in the place of apache/druid, to its documented contract: the service is the first argument; every druid_* of the
# environment is a property (`_` is `.`) over the defaults, DRUID_CONFIG_COMMON and DRUID_CONFIG_<service> are files that
# stand for them; DRUID_XMX, DRUID_XMS, DRUID_MAXNEWSIZE, DRUID_NEWSIZE and DRUID_MAXDIRECTMEMORYSIZE size the JVM; JAVA_OPTS
# come last.  All jars are on one class path, so nothing is loaded as an extension.
set -euo pipefail

service=$1
conf=/tmp/conf/druid
own=DRUID_CONFIG_$service
mkdir -p "$conf" var/tmp var/druid/segments var/druid/indexing-logs var/druid/task var/druid/segment-cache
{
  cat "${DRUID_CONFIG_COMMON:-conf/druid.properties}"
  [ -z "${!own-}" ] || { echo; cat "${!own}"; }
  echo
  [ "${DRUID_SET_HOST_IP:-1}" != 1 ] || echo "druid.host=$(hostname -I | cut -d' ' -f1)"
  while IFS= read -r -d '' entry; do
    name=${entry%%=*}
    [[ $name != druid_* ]] || printf '%s=%s\n' "${name//_/.}" "${entry#*=}"
  done < <(env -0)
} > "$conf/runtime.properties"

level=${DRUID_LOG_LEVEL:-info}
sed "s/^rootLogger.level = .*/rootLogger.level = $level/" log4j2.properties > "$conf/log4j2.properties"
[ -z "${DRUID_LOG4J-}" ] || echo "$DRUID_LOG4J" > "$conf/log4j2.xml"

sizes=("-Xms${DRUID_XMS:-256m}" "-Xmx${DRUID_XMX:-1g}" "-XX:MaxDirectMemorySize=${DRUID_MAXDIRECTMEMORYSIZE:-1g}")
[ -z "${DRUID_NEWSIZE-}" ] || sizes+=("-XX:NewSize=$DRUID_NEWSIZE")
[ -z "${DRUID_MAXNEWSIZE-}" ] || sizes+=("-XX:MaxNewSize=$DRUID_MAXNEWSIZE")

# What Druid asks for on Java 17 (its documentation, "Strong encapsulation").
opened=(--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED
  --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED
  --add-opens=java.base/jdk.internal.ref=ALL-UNNAMED --add-opens=java.base/java.io=ALL-UNNAMED
  --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED)

# shellcheck disable=SC2086
exec java "${opened[@]}" "${sizes[@]}" -server -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError -Duser.timezone=UTC -Dfile.encoding=UTF-8 \
  -Djava.io.tmpdir=var/tmp -Djava.util.logging.manager=org.apache.logging.log4j.jul.LogManager \
  "-Dlog4j.configurationFile=$(ls "$conf"/log4j2.xml 2> /dev/null || echo "$conf/log4j2.properties")" ${JAVA_OPTS-} \
  -cp "$conf:lib/*" org.apache.druid.cli.Main server "$@"
