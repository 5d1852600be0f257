// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Who signed a digest. One signature has one encoding in each call: 65 bytes r ‖ s ‖ v with v 27 or 28, or, where the call
/// says so, the two words of EIP-2098; s is in the lower half of the curve's order. Everything else reverts with its cause;
/// nothing recovers to the zero address.
library Signature {
    /// Half of the order of secp256k1, rounded down: the largest s that is not the mirror of a smaller one.
    uint256 internal constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    error SignatureLength(uint256 length);
    error SignatureHighS();
    error SignatureV(uint8 v);
    error SignatureInvalid();

    function signer(bytes32 digest, bytes calldata signature) internal view returns (address who) {
        if (signature.length != 65) revert SignatureLength(signature.length);
        uint8 v = uint8(signature[64]);
        if (v != 27 && v != 28) revert SignatureV(v);
        who = _recover(digest, v, bytes32(signature[0:32]), bytes32(signature[32:64]));
    }

    /// EIP-2098: the top bit of the second word is v - 27, the rest is s.
    function compactSigner(bytes32 digest, bytes32 r, bytes32 vs) internal view returns (address) {
        return _recover(digest, 27 + (uint256(vs) >> 255), r, bytes32(uint256(vs) << 1 >> 1));
    }

    /// The precompile answers nothing where nobody signed. Its question lies behind the free memory, which stays free.
    function _recover(bytes32 digest, uint256 v, bytes32 r, bytes32 s) private view returns (address who) {
        if (uint256(s) > HALF_ORDER) revert SignatureHighS();
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore(m, digest)
            mstore(add(m, 32), v)
            mstore(add(m, 64), r)
            mstore(add(m, 96), s)
            mstore(0, 0)
            pop(staticcall(gas(), 1, m, 128, 0, 32))
            who := mload(0)
        }
        if (who == address(0)) revert SignatureInvalid();
    }
}
