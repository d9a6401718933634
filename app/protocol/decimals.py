"""Decimals that come out the same on every machine.

Invariants: every operation is in a context given by name, never in the caller's.
"""

from decimal import Context, Decimal


def power(context: Context, base: Decimal, exponent: int) -> Decimal:
    """Give base^exponent by squaring from the exponent's highest bit.

    Not the library's own power: it is not promised to round the same everywhere.
    """
    result = Decimal(1)
    for bit in f"{exponent:b}":
        result = context.multiply(result, result)
        if bit == "1":
            result = context.multiply(result, base)
    return result
