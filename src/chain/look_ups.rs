//! Look-ups that wait: after a restart one for each open watch, a million of them. They are kept packed, a fifth of what they take
//! in memory otherwise, in pieces that are given back as they are worked off.

use std::collections::VecDeque;

use h402_watch_engine::changes::LookUp;

/// Bytes in a piece, but for its last look-up.
const PIECE: usize = 64 * 1024;

/// Oldest first.
#[derive(Default)]
pub struct LookUps {
    pieces: VecDeque<Piece>,
}

#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Where the first one begins that was not taken.
    next: usize,
}

/// Packs one. It can't fail: what is in it has lengths that are known.
pub fn pack(look_up: &LookUp) -> Option<Vec<u8>> {
    let packed = postcard::to_stdvec(look_up);
    packed.inspect_err(|error| tracing::error!(%error, "a look-up can't be packed")).ok()
}

impl LookUps {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Adds one that was packed.
    pub fn push(&mut self, packed: &[u8]) {
        match self.pieces.back_mut().filter(|piece| piece.bytes.len() < PIECE) {
            Some(piece) => piece.bytes.extend_from_slice(packed),
            None => self.pieces.push_back(Piece { bytes: packed.to_vec(), next: 0 }),
        }
    }

    /// Takes up to `max`.
    pub fn take(&mut self, max: usize) -> Vec<LookUp> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(piece) = self.pieces.front_mut()
        {
            match postcard::take_from_bytes(&piece.bytes[piece.next..]) {
                Ok((look_up, rest)) => {
                    piece.next = piece.bytes.len() - rest.len();
                    taken.push(look_up);
                }
                Err(error) => {
                    tracing::error!(%error, "look-ups can't be read");
                    piece.next = piece.bytes.len();
                }
            }
            if piece.next == piece.bytes.len() {
                self.pieces.pop_front();
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use h402_watch_engine::id::{AssetId, Timestamp};
    use h402_watch_engine::request::{Expiry, Subject};

    use super::*;

    fn look_up(n: u64) -> LookUp {
        let subject = match n % 4 {
            0 => Subject::Transaction { tx: format!("tx {n}").into(), expiry: Some(Expiry::Height(n)) },
            1 => Subject::Address,
            2 => Subject::Descriptor { descriptor: format!("descriptor {n}"), gap_limit: 20 },
            _ => Subject::Authorization { authorizer: "a".into(), nonce: "n".into(), valid_before: Some(Timestamp(n)) },
        };
        LookUp {
            watch: format!("watch {n}").into(),
            subject,
            pay_to: (0..n % 3).map(|i| format!("shop {i}").into()).collect(),
            asset: AssetId::native(),
            since: n.is_multiple_of(2).then_some(Timestamp(n)),
            from_height: n.is_multiple_of(5).then_some(n),
        }
    }

    #[test]
    fn they_come_back_as_they_were_in_their_order() {
        let (mut waiting, mut next) = (LookUps::default(), 0);
        for n in 0..10_000 {
            waiting.push(&pack(&look_up(n)).expect("it can be packed"));
            // Some are taken while others come.
            if n % 3 == 0 {
                for taken in waiting.take(2) {
                    assert_eq!(taken, look_up(next));
                    next += 1;
                }
            }
        }
        assert!(!waiting.is_empty() && waiting.pieces.len() > 1);
        assert!(waiting.take(0).is_empty());
        for taken in waiting.take(usize::MAX) {
            assert_eq!(taken, look_up(next));
            next += 1;
        }
        assert_eq!(next, 10_000);
        assert!(waiting.is_empty() && waiting.take(1).is_empty());
    }
}
