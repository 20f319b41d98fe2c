"""Bech32 and bech32m by the letter of BIP-173 and BIP-350, for spellings that no encoder makes."""

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32 = 1
BECH32M = 0x2BC8_30A3


def polymod(values: list[int]) -> int:
    """The checksum's remainder, a bit at a time."""
    residue = 1
    for value in values:
        top = residue >> 25
        residue = ((residue & 0x1FF_FFFF) << 5) ^ value
        for place, term in enumerate((0x3B6A_57B2, 0x2650_8E6D, 0x1EA1_19FA, 0x3D42_33DD, 0x2A14_62B3)):
            residue ^= term if (top >> place) & 1 else 0
    return residue


def digits_of(data: bytes) -> list[int]:
    """Regroup bytes to digits of five bits, with zeros at the end."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]


def spell(prefix: str, digits: list[int], constant: int = BECH32M) -> str:
    """Put prefix, digits and checksum together."""
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    residue = polymod([*expanded, *digits, 0, 0, 0, 0, 0, 0]) ^ constant
    checksum = [(residue >> 5 * (5 - place)) & 31 for place in range(6)]
    return prefix + "1" + "".join(ALPHABET[digit] for digit in digits + checksum)
