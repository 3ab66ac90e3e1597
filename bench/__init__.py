"""Benchmarks: ratios against plain baselines, each measured in the same run. See docs/performance.md."""
