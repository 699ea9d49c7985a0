//! Branches of a Bitcoin block's tree of transactions.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d};

use crate::wrong::{Code, Wrong, ensure};

/// The longest branch: a block has room for 16,666 transactions, as each takes at least 60 of 1,000,000 bytes.
pub const BRANCH_MAX: usize = 15;

/// Where a branch leads from the leaf at `index`.
///
/// The tree repeats the last node of a level that has an odd number of them, so that a list of transactions which repeats its
/// end has the same root (CVE-2012-2459). A leaf has one place all the same: whoever is paired with its like is the last of
/// its level, on the left, and so are all above.
pub fn root(leaf: sha256d::Hash, index: u64, branch: &[sha256d::Hash]) -> Result<sha256d::Hash, Wrong> {
    ensure(branch.len() <= BRANCH_MAX, Code::ProofBranch, || "a branch that is longer than blocks have".into())?;
    ensure(index >> branch.len() == 0, Code::ProofBranch, || format!("a branch that does not reach place {index}"))?;
    let repeats = || Wrong::new(Code::ProofDuplicate, format!("place {index} is in the part that the tree repeats"));
    let (mut node, mut place, mut is_last) = (leaf, index, false);
    for sibling in branch {
        let is_right = place & 1 == 1;
        match (is_right, node == *sibling) {
            (true, true) => return Err(repeats()),
            // The first of a level is its last only where it is the root.
            (false, true) if place == 0 => return Err(repeats()),
            (false, true) => is_last = true,
            (false, false) if is_last => return Err(repeats()),
            _ => {}
        }
        node = if is_right { pair(*sibling, node) } else { pair(node, *sibling) };
        place >>= 1;
    }
    Ok(node)
}

/// The node above two.
pub fn pair(left: sha256d::Hash, right: sha256d::Hash) -> sha256d::Hash {
    let mut engine = sha256d::Hash::engine();
    engine.input(left.as_byte_array());
    engine.input(right.as_byte_array());
    sha256d::Hash::from_engine(engine)
}
