"""Webhooks: payload, allowed targets, delivery."""
