"""Numbers in answers, as people and models write them."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_SPACES = "   \u2009\u202f"
_CURRENCY = "$€£¥₹"
_NUMBER = re.compile(
    rf"""^\s*(?P<sign>[-+]?)\s*(?:[A-Z]{{3}}\s+)?[{_CURRENCY}]?\s*(?P<inner>[-+]?)
    (?P<digits>\d[\d.,'\u2019_{_SPACES}]*|[.,]\d+)(?P<exponent>[eE][-+]?\d{{1,3}})?
    \s*(?P<percent>[%‰]?)\s*(?:[{_CURRENCY}]|[A-Z]{{3}})?\s*$""",
    re.VERBOSE,
)
_GROUPED = {
    ",": re.compile(r"^\d{1,3}(,\d{2,3})*,\d{3}$"),
    ".": re.compile(r"^\d{1,3}(\.\d{3}){2,}$"),
}
MAX_DIGITS = 100
"""The longest number that is read, in characters."""


def parse_number(text: str) -> Decimal | None:
    """Return a text's number, if it is one.

    Knows signs with the Unicode minus, thousands separators (comma, point, blank, apostrophe), decimal points and
    commas, currencies, exponents and percent (50% is 0.5).
    """
    bare = text.strip().strip("*`\"'").rstrip(".").replace("\u2212", "-").replace("\u2013", "-")
    if len(bare) > MAX_DIGITS or not (found := _NUMBER.match(bare)) or (found["sign"] and found["inner"]):
        return None
    digits = re.sub(rf"['\u2019_{_SPACES}]", "", found["digits"]).rstrip(".,")
    if digits.count(",") and digits.count("."):
        thousands, point = (",", ".") if digits.rfind(".") > digits.rfind(",") else (".", ",")
        if digits.count(point) > 1:
            return None
        plain = digits.replace(thousands, "").replace(point, ".")
    else:
        mark = "," if "," in digits else "."
        plain = digits.replace(mark, "") if _GROUPED[mark].match(digits) else digits.replace(",", ".")
    try:
        value = Decimal(f"{found['sign'] or found['inner']}{plain}{found['exponent'] or ''}")
    except InvalidOperation:
        return None
    return value / {"%": 100, "‰": 1000}.get(found["percent"], 1)
