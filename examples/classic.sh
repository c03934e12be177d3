#!/usr/bin/env bash
# The classic recipe by curl: facebook/opt-350m on imdb, micro-batch 4 x accumulation 8, 1000 steps.
# Needs a running server (`make up`) with access to the Hugging Face Hub.
set -euo pipefail
here=$(dirname "$0")
url=${TUNEYARD_URL:-http://127.0.0.1:8080}
auth=(-H "Authorization: Bearer ${TUNEYARD_API_KEY:-none}")

job=$(curl -fsS "${auth[@]}" -H 'Content-Type: application/json' \
  --data @"$here/opt-350m-imdb.json" "$url/v1/fine_tuning/jobs" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
echo "job $job"

# Live, from the first event on; ends when the job does. Resume with -H "Last-Event-ID: <n>".
curl -fsSN "${auth[@]}" -H 'Accept: text/event-stream' "$url/v1/fine_tuning/jobs/$job/events"

# What it learned, as one archive: model, tokenizer, settings.
curl -fsS "${auth[@]}" -o "$job.tar" "$url/v1/fine_tuning/jobs/$job/checkpoints/1000/archive"
echo "saved $job.tar"
