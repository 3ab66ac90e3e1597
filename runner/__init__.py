"""Batchspec: infrastructure-as-code for LLM batch jobs."""
