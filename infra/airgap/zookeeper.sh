#!/bin/bash
# ZooKeeper in the place of the image `zookeeper`, to its documented contract: ZOO_* become zoo.cfg unless there is one;
# ZK_SERVER_HEAP (MB) and JVMFLAGS, SERVER_JVMFLAGS go to the JVM.  One server: the contract's ZOO_SERVERS is kept for it.
set -euo pipefail

config=${ZOO_CONF_DIR:-/conf}/zoo.cfg data=${ZOO_DATA_DIR:-/data}
if [ ! -f "$config" ]; then
  {
    echo "dataDir=$data"
    echo "dataLogDir=${ZOO_DATA_LOG_DIR:-/datalog}"
    echo "tickTime=${ZOO_TICK_TIME:-2000}"
    echo "initLimit=${ZOO_INIT_LIMIT:-5}"
    echo "syncLimit=${ZOO_SYNC_LIMIT:-2}"
    echo "autopurge.snapRetainCount=${ZOO_AUTOPURGE_SNAPRETAINCOUNT:-3}"
    echo "autopurge.purgeInterval=${ZOO_AUTOPURGE_PURGEINTERVAL:-0}"
    echo "maxClientCnxns=${ZOO_MAX_CLIENT_CNXNS:-60}"
    echo "standaloneEnabled=${ZOO_STANDALONE_ENABLED:-true}"
    echo "admin.enableServer=${ZOO_ADMINSERVER_ENABLED:-true}"
    for server in ${ZOO_SERVERS:-server.1=localhost:2888:3888;2181}; do echo "$server"; done
    [ -z "${ZOO_4LW_COMMANDS_WHITELIST-}" ] || echo "4lw.commands.whitelist=$ZOO_4LW_COMMANDS_WHITELIST"
    for line in ${ZOO_CFG_EXTRA-}; do echo "$line"; done
  } > "$config"
fi
[ -f "$data/myid" ] || echo "${ZOO_MY_ID:-1}" > "$data/myid"

[ "$*" = "zkServer.sh start-foreground" ] || exec "$@"
# shellcheck disable=SC2086
exec java -Xmx${ZK_SERVER_HEAP:-1000}m ${SERVER_JVMFLAGS-} ${JVMFLAGS-} -Dlog4j.configurationFile=/opt/druid/log4j2.properties \
  -cp "/opt/druid/lib/*" org.apache.zookeeper.server.quorum.QuorumPeerMain "$config"
