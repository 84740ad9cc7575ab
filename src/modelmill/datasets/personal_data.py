"""Personal data that has a form of its own: what a text can be refused for.

E-mail addresses, telephone numbers, bank accounts (IBAN), payment cards and IPv4 addresses. A pattern finds
what may be one, in linear time; where there are check digits, they decide. Names, addresses, dates of birth
and whatever else has no form is not found, and a number can pass by chance: one in ten of those that begin as
a card's and are as long, one in 97 of those that look like an account.

presidio finds names, too, with a language model of spaCy's that it downloads; for these five it has patterns
and check digits as well. It was not measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

PersonalData = Literal["email", "phone", "iban", "card", "ipv4"]

SHOWN: dict[PersonalData, str] = {
    "email": "e-mail addresses",
    "phone": "telephone numbers",
    "iban": "bank accounts (IBAN)",
    "card": "payment cards",
    "ipv4": "IPv4 addresses",
}

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_MAY_BE: dict[PersonalData, str] = {
    "email": r"[A-Za-z0-9_%+-]@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}",
    # +49 30 1234567, 0049-30-1234567, (555) 123-4567, 555-123-4567
    "phone": r"(?:^|[^\w+.])(?:(?:\+|00)[1-9](?:[ ()./-]{0,2}\d){6,14}|\(\d{3}\) ?\d{3}[ .-]\d{4}"
    r"|\d{3}[.-]\d{3}[.-]\d{4})(?:[^\d]|$)",
    "iban": r"[A-Z]{2}\d{2}[ -]?[A-Z0-9]{4}",
    "card": r"\d(?:[ -]?\d){12}",
    "ipv4": rf"(?:^|[^\d.])(?:{_OCTET}\.){{3}}{_OCTET}(?:[^\d.]|\.[^\d]|\.?$)",
}
"""In the syntax that RE2 and Python share."""

_ACCOUNT = re.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}")
_RUN = re.compile(r"\d+(?:[ -]\d+)*")
_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE", "BI"), 16),
    **dict.fromkeys(("DK", "FI", "FK", "FO", "GL", "NL", "SD"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "LT", "LU", "MN", "XK"), 20),
    **dict.fromkeys(("CH", "HR", "LI", "LV"), 21),
    **dict.fromkeys(("BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS", "VA"), 22),
    **dict.fromkeys(("AE", "GI", "IL", "IQ", "OM", "SO", "TL"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG"), 24),
    **dict.fromkeys(("LY", "PT", "ST"), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("DJ", "FR", "GR", "IT", "MC", "MR", "SM"), 27),
    **dict.fromkeys(("AL", "AZ", "BY", "CY", "DO", "GT", "HU", "LB", "NI", "PL", "SV"), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU", "YE"), 30),
    **dict.fromkeys(("MT", "SC"), 31),
    **dict.fromkeys(("LC",), 32),
    **dict.fromkeys(("RU",), 33),
}
"""Characters of an account, by country (the registry of ISO 13616)."""


def has_personal_data(texts: Any, kind: PersonalData) -> Any:
    """Return which texts have something that looks like personal data.

    :param texts: Arrow array of strings.
    :param kind: what is looked for.
    :return: Arrow array of booleans, null where the text is.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.match_substring_regex(texts, _MAY_BE[kind])
    decides = _DECIDES.get(kind)
    if decides is None:
        return found
    sure = iter([decides(text) for text in texts.filter(found).to_pylist()])
    return pa.array([next(sure) if one else one for one in found.to_pylist()], pa.bool_())


def _has_account(text: str) -> bool:
    return any(_is_account(text, found.start()) for found in _ACCOUNT.finditer(text))


def _is_account(text: str, start: int) -> bool:
    """Return whether an IBAN begins at a place, written at once or in groups (ISO 7064, mod 97-10)."""
    length = _LENGTHS.get(text[start : start + 2])
    if length is None:
        return False
    place, signs = start, ""
    while place < len(text) and len(signs) < length:
        if text[place] not in " -" or not signs or text[place - 1] in " -":
            signs += text[place]
        place += 1
    if len(signs) < length or not (signs.isascii() and signs.isalnum()) or text[place : place + 1].isalnum():
        return False
    return int("".join(str(int(sign, 36)) for sign in signs[4:] + signs[:4])) % 97 == 1


def _has_card(text: str) -> bool:
    """Return whether some neighbouring groups of digits are the number of a card."""
    for run in _RUN.finditer(text):
        groups = re.split("[ -]", run[0])
        for first in range(len(groups)):
            digits = ""
            for group in groups[first : first + 6]:
                digits += group
                if len(digits) > 19:
                    break
                if _is_card(digits):
                    return True
    return False


def _is_card(digits: str) -> bool:
    """Return whether digits are a number that a network gives out, with its check digit (ISO/IEC 7812)."""
    if not any(digits.startswith(first) and len(digits) in lengths for first, lengths in _NETWORKS):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number // 10 + number % 10 for number in doubled) % 10 == 0


_NETWORKS: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...] = (
    (("4",), (13, 16, 19)),
    (("51", "52", "53", "54", "55", "23", "24", "25", "26", "270", "271", "272"), (16,)),
    (tuple(f"22{third}" for third in range(2, 10)), (16,)),
    (("34", "37"), (15,)),
    (("36", "38", "39", *(f"30{third}" for third in range(6))), (14,)),
    (("35", "6011", "64", "65"), (16,)),
    (("62",), (16, 17, 18, 19)),
)
"""What numbers of cards begin with, and how many digits they have."""
_DECIDES: dict[PersonalData, Callable[[str], bool]] = {"iban": _has_account, "card": _has_card}
