"""Numbers as a person reads them."""

import math

MINUS = "\u2212"
TIMES = "\u00d7"
NOTHING = "\u2013"


def format_value(number: float) -> str:
    """Returns a measurement with about four digits that matter: 0.4312, 4.312, 43.12, 4,312, 4.31e-5."""
    if not math.isfinite(number):
        return "not a number" if math.isnan(number) else "∞" if number > 0 else f"{MINUS}∞"
    size = abs(number)
    if number == 0:
        return "0"
    if size < 1e-3 or size >= 1e15:
        return format_scientific(number)
    num_decimals = 4 if size < 1 else max(0, 3 - math.floor(math.log10(size)))
    return f"{number:,.{num_decimals}f}".replace("-", MINUS)


def format_scientific(number: float) -> str:
    """Returns at most three digits and a power of ten: 2.5e-4."""
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}".replace("-", MINUS, 1 if number < 0 else 0)


def format_count(number: float) -> str:
    """Returns a count with three digits that matter: 812, 60.5 M, 1.2 G."""
    for size, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.{max(0, 2 - math.floor(math.log10(scaled)))}f}{suffix}"
    return f"{number:,.0f}"


def format_duration(seconds: float) -> str:
    """Returns a duration in its largest unit, with the next one while that tells more than a tenth: 48 s, 3 h 20 min."""
    whole = round(seconds)
    for size, unit, smaller_size, smaller_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            count, rest = whole // size, whole % size // smaller_size
            return f"{count} {unit} {rest} {smaller_unit}" if rest and count < 10 else f"{count} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
