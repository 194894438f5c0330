#!/bin/sh
# indexer.sh TASKS STATE COMMAND...: puts right what an indexer that was cut off has left, and becomes COMMAND, the next one.
#   TASKS  druid.worker.baseTaskDirs. Emptied: a task that is given out again under its old id takes what lies there for its own.
#   STATE  druid.indexer.task.baseTaskDir. Its restore.json names the tasks that ran; each is announced as failed, as one that
#          disappeared (the words by which Druid itself tells it). By itself the indexer says nothing of them, and an overlord
#          that was restarted after they had begun does not miss them: it waits for them until their duration is over.
set -eu
tasks=$1 state=$2
shift 2
rm -rf "$tasks"/*/*
if [ -f "$state/restore.json" ]; then
  mkdir -p "$state/completedTasks"
  grep -o '"[^"]*"' "$state/restore.json" | tr -d '"' | grep -v '^runningTasks$' | while IFS= read -r id; do
    status="{\"id\": \"$id\", \"status\": \"FAILED\", \"duration\": -1, \"errorMsg\": \"This task disappeared with its indexer.\"}"
    echo "{\"id\": \"$id\", \"taskStatus\": $status}" > "$state/completedTasks/$id"
  done
  rm "$state/restore.json"
fi
exec "$@"
