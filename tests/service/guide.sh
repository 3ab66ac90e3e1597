#!/bin/sh
# The curl commands of the vendor's guide (27 April 2026), in their order, as a user types them: only the host, the key
# and the names of files and jobs are put in. Between them stands what the guide says in words: note the id, poll.
# Needs HOST and MODEL_ACCESS_KEY, and prompts.jsonl in the folder it runs in.
set -eu

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# Upload your file
curl -sS --fail-with-body -X POST "$HOST/v1/batches/files" \
  -H "Authorization: Bearer $MODEL_ACCESS_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "file_name": "prompts.jsonl"
  }' > file.json
upload_url=$(field upload_url < file.json)
file_id=$(field file_id < file.json)

curl -sS --fail-with-body -X PUT "$upload_url" \
  -H "Content-Type: application/jsonl" \
  --data-binary @prompts.jsonl

# Create the batch job
curl -sS --fail-with-body -X POST "$HOST/v1/batches" \
  -H "Authorization: Bearer $MODEL_ACCESS_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "file_id": "'"$file_id"'",
    "completion_window": "24h",
    "parameters": {
      "temperature": 0.2,
      "max_tokens": 1024
    }
  }' > created.json
batch_id=$(field id < created.json)

# Monitor job status
poll() {
  while :; do
    curl -sS --fail-with-body "$HOST/v1/batches/$1" \
      -H "Authorization: Bearer $MODEL_ACCESS_KEY" > batch.json
    case $(field status < batch.json) in
      "$2" | completed | failed | expired | cancelled) break ;;
    esac
    sleep 0.1
  done
}
poll "$batch_id" completed
cp batch.json completed.json

# Download results
curl -sS --fail-with-body "$HOST/v1/batches/$batch_id/results" \
  -H "Authorization: Bearer $MODEL_ACCESS_KEY" > results.json
curl -sS --fail-with-body "$(field output_url < results.json)" > batch_output.jsonl

# Use webhooks
curl -sS --fail-with-body -X POST "$HOST/v1/batches" \
  -H "Authorization: Bearer $MODEL_ACCESS_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "file_id": "'"$file_id"'",
    "completion_window": "24h",
    "parameters": {
      "temperature": 0.2,
      "max_tokens": 1024
    },
    "webhook": {
      "url": "'"$WEBHOOK_URL"'",
      "secret": "your-webhook-secret"
    }
  }' > hooked.json
hooked_id=$(field id < hooked.json)

# Cancel a batch job
poll "$hooked_id" in_progress
curl -sS --fail-with-body -X POST "$HOST/v1/batches/$hooked_id/cancel" \
  -H "Authorization: Bearer $MODEL_ACCESS_KEY" > cancelled.json
poll "$hooked_id" cancelled

# List batch jobs
curl -sS --fail-with-body "$HOST/v1/batches" \
  -H "Authorization: Bearer $MODEL_ACCESS_KEY" > list.json
