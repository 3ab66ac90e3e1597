"""`batchspec listen`: receives webhooks and continues their jobs."""
