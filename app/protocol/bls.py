"""BLS signatures in G1 over BLS12-381, as drand's quicknet makes them.

Invariants: a signature passes only if it is a point of the group of prime order and fits key and message. Importing this
module leaves the interpreter's recursion limit as it was.
Source: draft-irtf-cfrg-bls-signature-05 section 2.7 (CoreVerify); RFC 9380 (hash to curve).
"""

import hashlib
import sys

from app.errors import ProofError

# Importing py_ecc lifts the recursion limit of the whole process to 100,000. Deeply nested JSON from a stranger would
# then overflow the C stack and kill the process, where it now raises RecursionError. Nothing used here recurses deep.
_RECURSION_LIMIT = sys.getrecursionlimit()
from py_ecc.bls.g2_primitives import subgroup_check  # noqa: E402
from py_ecc.bls.hash_to_curve import hash_to_G1  # noqa: E402
from py_ecc.bls.point_compression import decompress_G1, decompress_G2  # noqa: E402
from py_ecc.bls.typing import G1Compressed, G2Compressed, G2Uncompressed  # noqa: E402
from py_ecc.fields import optimized_bls12_381_FQ12 as FQ12  # noqa: E402
from py_ecc.optimized_bls12_381.optimized_curve import G2, is_inf, neg  # noqa: E402
from py_ecc.optimized_bls12_381.optimized_pairing import final_exponentiate, pairing  # noqa: E402

sys.setrecursionlimit(_RECURSION_LIMIT)

# A compressed point of G1.
SIGNATURE_BYTES = 48

DST = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"


def public_point(public_key: bytes) -> G2Uncompressed:
    """Decompress a public key, a compressed point of G2 (96 bytes)."""
    half = len(public_key) // 2
    first, second = (int.from_bytes(part, "big") for part in (public_key[:half], public_key[half:]))
    return decompress_G2(G2Compressed((first, second)))


def verify_bls(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature; the key must be a known constant, for its group is not checked here.

    Raises: ProofError.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise ProofError(f"the signature of a drand round has {SIGNATURE_BYTES} bytes, not {len(signature)}")
    try:
        point = decompress_G1(G1Compressed(int.from_bytes(signature, "big")))
    except ValueError as error:
        raise ProofError("the signature of the drand round is not a point of the curve") from error
    # Outside the group of prime order the pairing proves nothing, and the point at infinity fits a key of zero.
    if is_inf(point) or not subgroup_check(point):
        raise ProofError("the signature of the drand round is not in the group of prime order")
    # py_ecc's annotation names the hash object's type, but it means and calls the constructor.
    hashed = hash_to_G1(message, DST, hashlib.sha256)  # type: ignore[arg-type]
    # e(signature, G2) = e(message, key) as one product with a single final exponentiation.
    key = public_point(public_key)
    product = pairing(G2, point, final_exponentiate=False) * pairing(neg(key), hashed, final_exponentiate=False)
    if final_exponentiate(product) != FQ12.one():
        raise ProofError("the signature is not the chain's over this round")
