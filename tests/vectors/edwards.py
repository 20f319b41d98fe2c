"""Points of edwards25519 in plain integers, for vectors that no sound signer would make. Never for real keys."""

from hashlib import sha512

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493  # order of the base point
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]

IDENTITY: Point = (0, 1)
# A point of order 8; with it every point of small order can be made.
TORSION = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")


def decode(data: bytes) -> Point:
    """Read 32 bytes as a point; the encoding must be canonical."""
    number = int.from_bytes(data, "little")
    y, odd = number % 2**255, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square, "not on the curve"
    return (P - x if x & 1 != odd else x, y)


def encode(point: Point) -> bytes:
    """Write a point in its canonical form."""
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def add(one: Point, other: Point) -> Point:
    """Add two points."""
    (x1, y1), (x2, y2) = one, other
    cross = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + cross, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - cross, -1, P) % P
    return (x, y)


def multiply(factor: int, point: Point) -> Point:
    """Add a point to itself `factor` times."""
    total = IDENTITY
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


BASE = decode(bytes([0x58]) + bytes([0x66]) * 31)


def private_scalar(seed: bytes) -> int:
    """Give the secret scalar that an Ed25519 seed stands for."""
    low = int.from_bytes(sha512(seed).digest()[:32], "little")
    return low & ~7 & (1 << 254) - 1 | 1 << 254


def challenge(r: bytes, public: bytes, message: bytes) -> int:
    """Hash what an Ed25519 signature binds."""
    return int.from_bytes(sha512(r + public + message).digest(), "little") % L


def scalar_bytes(scalar: int) -> bytes:
    """Write a scalar as the second half of a signature."""
    return scalar.to_bytes(32, "little")
