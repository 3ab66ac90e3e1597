"""Loads once what commands load on their way, so that forks of this process have it."""

from __future__ import annotations

import importlib
import pkgutil

MODULES = (
    "anyio._backends._asyncio", "bpe_openai", "certifi", "duckdb", "encodings.idna", "filelock",
    "genai_prices.data", "genai_prices.data_units", "genai_prices.decompose", "genai_prices.validation", "h11",
    "httpcore", "httptools", "jinja2", "jsonschema", "numpy", "re2", "rich.console", "rich.live", "structlog",
    "typer._adapters", "uvicorn.lifespan.off", "uvicorn.loops.auto", "uvicorn.protocols.http.auto", "zstandard",
)  # fmt: skip
"""What commands import when they need it, outside of `runner`."""


def warm() -> None:
    """Import all modules of `runner` and what they import later; load the tables of OpenAI's tokenizers."""
    import runner
    from runner.base import tokenizer
    from runner.service.backends import tokens as served

    for module in pkgutil.walk_packages(runner.__path__, "runner."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in MODULES:
        importlib.import_module(name)
    for encoding in ("cl100k_base", "o200k_base"):
        tokenizer.token_counter(encoding)
        served._load(encoding)
