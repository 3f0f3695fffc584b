//! A piece of a pattern with `_`, looked for from all places of a value at once (Shift-And).
//!
//! Bit `i` says that the characters read last match the first `i + 1` of the piece. One more character shifts all bits up and
//! keeps those that it matches.

use super::{Token, allocated};

/// Characters of a piece in one word.
const WORD: usize = 64;

/// A piece of at least one character.
pub(super) struct Steps {
    length: usize,
    /// Where any character matches.
    any: Box<[u64]>,
    /// By character: where else it matches.
    places: Box<[(char, Places)]>,
}

/// A character that is at many places has a bit for each; all others together take as much as their places. So memory is
/// linear in the piece, and a step visits no more places than words.
enum Places {
    Few(Box<[u32]>),
    Many(Box<[u64]>),
}

impl Steps {
    pub(super) fn new(tokens: &[Token]) -> Self {
        assert!(!tokens.is_empty(), "an empty piece stands everywhere");
        let words = tokens.len().div_ceil(WORD);
        let mask = |is_set: &dyn Fn(Token) -> bool| -> Box<[u64]> {
            let word = |tokens: &[Token]| {
                let bits = tokens.iter().enumerate().map(|(bit, token)| u64::from(is_set(*token)) << bit);
                bits.fold(0, |word, bit| word | bit)
            };
            tokens.chunks(WORD).map(word).collect()
        };
        let mut named: Vec<(char, u32)> = tokens
            .iter()
            .zip(0..)
            .filter_map(|(token, at)| match token {
                Token::Is(character) => Some((*character, at)),
                Token::One => None,
            })
            .collect();
        named.sort_unstable();
        let places = named.chunk_by(|(one, _), (other, _)| one == other).filter_map(|same| {
            let (character, _) = *same.first()?;
            let places = if words < same.len() {
                Places::Many(mask(&|token| token == Token::Is(character)))
            } else {
                Places::Few(same.iter().map(|(_, at)| *at).collect())
            };
            Some((character, places))
        });
        Self { length: tokens.len(), any: mask(&|token| token == Token::One), places: places.collect() }
    }

    /// Where the leftmost place ends at which it stands, bytes of the value.
    pub(super) fn find_end(&self, value: &str) -> Option<usize> {
        let (last_word, last_bit) = ((self.length - 1) / WORD, (self.length - 1) % WORD);
        let mut state = vec![0_u64; self.any.len()];
        let mut shifted = state.clone();
        for (at, character) in value.char_indices() {
            // It may begin here.
            let mut carry = 1;
            for ((shifted, word), any) in shifted.iter_mut().zip(&mut state).zip(&self.any) {
                *shifted = *word << 1 | carry;
                carry = *word >> (WORD - 1);
                *word = *shifted & any;
            }
            let places = self.places.binary_search_by_key(&character, |(named, _)| *named).ok();
            match places.and_then(|index| self.places.get(index)).map(|(_, places)| places) {
                None => {}
                Some(Places::Many(mask)) => {
                    for ((word, shifted), bits) in state.iter_mut().zip(&shifted).zip(mask) {
                        *word |= shifted & bits;
                    }
                }
                Some(Places::Few(places)) => {
                    for place in places {
                        let (index, bit) = (*place as usize / WORD, 1 << (*place as usize % WORD));
                        if let (Some(word), Some(shifted)) = (state.get_mut(index), shifted.get(index)) {
                            *word |= shifted & bit;
                        }
                    }
                }
            }
            if state.get(last_word).is_some_and(|word| word >> last_bit & 1 == 1) {
                return Some(at + character.len_utf8());
            }
        }
        None
    }

    pub(super) fn held_bytes(&self) -> usize {
        let of_places = |(_, places): &(char, Places)| match places {
            Places::Few(places) => allocated(size_of_val(&**places)),
            Places::Many(mask) => allocated(size_of_val(&**mask)),
        };
        let places: usize = self.places.iter().map(of_places).sum();
        allocated(size_of_val(&*self.any)) + allocated(size_of_val(&*self.places)) + places
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.chars().map(|character| if character == '_' { Token::One } else { Token::Is(character) }).collect()
    }

    /// By trying every place.
    fn find_end(tokens: &[Token], value: &str) -> Option<usize> {
        let ends_at = |(at, _): (usize, char)| {
            let mut left = value[at..].char_indices();
            let mut matches = |token: &Token| {
                left.next().is_some_and(|(_, found)| *token == Token::One || *token == Token::Is(found))
            };
            tokens.iter().all(&mut matches).then(|| value.len() - left.as_str().len())
        };
        value.char_indices().find_map(ends_at)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn it_is_found_where_it_stands_first(piece in "[abü_]{1,4}", value in "[abüc]{0,12}") {
            prop_assert_eq!(Steps::new(&tokens(&piece)).find_end(&value), find_end(&tokens(&piece), &value));
        }

        /// Pieces of several words, with characters at few places and at many, of a value that nearly holds them.
        #[test]
        fn long_ones_are_found_where_they_stand_first(
            piece in "[ab_]{1,200}|[a-zü_]{60,200}",
            before in "[ab]{0,70}",
            at in any::<prop::sample::Index>(),
            is_broken: bool,
        ) {
            let mut text: Vec<char> = piece.replace('_', "ü").chars().collect();
            if is_broken {
                *at.get_mut(&mut text) = '-';
            }
            let value: String = before.chars().chain(text).chain("ab".chars()).collect();
            prop_assert_eq!(Steps::new(&tokens(&piece)).find_end(&value), find_end(&tokens(&piece), &value));
        }
    }

    /// As long as a pattern and a value may be: what is held is linear in the piece, and so is a step in its words.
    #[test]
    fn a_long_piece_takes_little() {
        let some = |of: &dyn Fn(u32) -> char| -> Vec<Token> {
            (0..1023).map(|at| Token::Is(of(at))).chain([Token::One]).collect()
        };
        let few = |at: u32| char::from_u32(0x4e00 + at).unwrap();
        for tokens in [some(&|_| 'a'), some(&few), some(&|at| few(at / 20)), some(&|at| few(at / 12))] {
            let steps = Steps::new(&tokens);
            assert!(steps.held_bytes() <= 64 * tokens.len(), "{} bytes", steps.held_bytes());
            let visited = steps.places.iter().map(|(_, places)| match places {
                Places::Few(places) => places.len(),
                Places::Many(mask) => mask.len(),
            });
            assert!(visited.max().is_some_and(|most| most <= 16));
        }
    }
}
