#!/bin/sh
# indexer.sh TASKS STATE COMMAND...: puts right what an indexer that was cut off has left, and becomes COMMAND, the next one.
#   TASKS  druid.worker.baseTaskDirs. Emptied: a task that is given out again under its old id takes what lies there for its own.
#   STATE  druid.indexer.task.baseTaskDir. Its restore.json names the tasks that ran; each is announced as failed. By itself
#          the indexer says nothing of them, and an overlord that was restarted after they had begun does not miss them: it
#          waits for them until their duration is over.
tasks=$1 state=$2
shift 2
rm -rf "$tasks"/*/*
if [ -f "$state/restore.json" ]; then
  mkdir -p "$state/completedTasks"
  for id in $(grep -o '"[^"]*"' "$state/restore.json" | tr -d '"' | grep -v '^runningTasks$'); do
    status="{\"id\": \"$id\", \"status\": \"FAILED\", \"duration\": -1, \"errorMsg\": \"Its indexer was cut off.\"}"
    echo "{\"id\": \"$id\", \"taskStatus\": $status}" > "$state/completedTasks/$id"
  done
  rm "$state/restore.json"
fi
exec "$@"
