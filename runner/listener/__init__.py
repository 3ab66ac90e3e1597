"""`batchspec listen`: receives webhooks and continues the jobs they are about."""
