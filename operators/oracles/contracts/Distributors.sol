// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

/// Pays each leaf of a published root once. For tests: what it would pay is an event.
///
/// Lives here: how a contract on chain makes a leaf, for each profile that contracts verify. May not
/// live here: how proofs are folded, which is OpenZeppelin's.
abstract contract Distributor {
    bytes32 public immutable root;
    mapping(bytes32 leaf => bool) public claimed;

    event Claimed(bytes32 leaf);

    error AlreadyClaimed();
    error WrongProof();

    constructor(bytes32 root_) {
        root = root_;
    }

    function _claim(bytes32 leaf, bytes32[] calldata proof) internal {
        if (claimed[leaf]) revert AlreadyClaimed();
        if (!MerkleProof.verifyCalldata(proof, root, leaf)) revert WrongProof();
        claimed[leaf] = true;
        emit Claimed(leaf);
    }
}

/// Profile `uniswap`: the leaf of Uniswap's MerkleDistributor.
contract UniswapDistributor is Distributor {
    constructor(bytes32 root_) Distributor(root_) {}

    function claim(uint256 index, address account, uint256 amount, bytes32[] calldata proof) external {
        _claim(keccak256(abi.encodePacked(index, account, amount)), proof);
    }
}

/// Profiles `openzeppelin-standard` and `murky`, with a claim's fields: one leaf, two trees.
contract StandardDistributor is Distributor {
    constructor(bytes32 root_) Distributor(root_) {}

    function claim(bytes32 claimer, uint256 index, uint256 amount, string calldata id, bytes32[] calldata proof)
        external
    {
        _claim(keccak256(bytes.concat(keccak256(abi.encode(claimer, index, amount, id)))), proof);
    }
}

/// Profile `openzeppelin-simple`, and any other with sorted keccak256 pairs: the leaf as it is.
contract SimpleDistributor is Distributor {
    constructor(bytes32 root_) Distributor(root_) {}

    function claim(bytes32 leaf, bytes32[] calldata proof) external {
        _claim(leaf, proof);
    }

    function claimMany(bytes32[] calldata leaves, bytes32[] calldata proof, bool[] calldata flags) external {
        if (!MerkleProof.multiProofVerifyCalldata(proof, flags, root, leaves)) revert WrongProof();
        for (uint256 i = 0; i < leaves.length; i++) {
            if (claimed[leaves[i]]) revert AlreadyClaimed();
            claimed[leaves[i]] = true;
            emit Claimed(leaves[i]);
        }
    }
}
