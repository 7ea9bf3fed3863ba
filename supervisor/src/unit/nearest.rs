//! The word that was probably meant.

use super::Said;

/// The nearest of the candidates, if it is near enough for a guess: equal but for case, or at most a third of its letters away.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = letters(word);
    candidates
        .filter_map(|candidate| {
            if candidate.len().abs_diff(word.len()) > 3 || word.len() > LONGEST {
                return None;
            }
            // What all of a kind end with is no likeness.
            let stem = candidate.rsplit_once('.').map_or(candidate, |(stem, _)| stem);
            let most = (stem.len() / 3).clamp(1, 3);
            // An edit changes two letters at most: ten thousand names are looked at, and few compared.
            if (letters ^ self::letters(candidate)).count_ones() as usize > 2 * most {
                return None;
            }
            let distance = distance(word.as_bytes(), candidate.as_bytes(), most)?;
            // Of two that are equally near, the one that is as long: letters are swapped more often than forgotten.
            let length = candidate.len().abs_diff(word.len());
            // Of one letter nothing is left when it is replaced.
            (distance < candidate.len()).then_some((distance, length, candidate))
        })
        .min_by_key(|(distance, length, _)| (*distance, *length))
        .map(|(_, _, candidate)| candidate)
}

/// Which letters there are, whatever their case.
fn letters(text: &str) -> u64 {
    text.bytes().fold(0, |set, byte| set | 1 << (byte.to_ascii_lowercase() % 64))
}

/// A sentence about an unknown word, with the one that was probably meant.
pub(super) fn did_you_mean<'a>(text: String, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Said {
    Said::guess(text, nearest(word, candidates.into_iter()), "")
}

/// Edits (insert, remove, replace, swap of neighbours) from one word to the other, whatever their case, as far as they are not more
/// than `most`. Ten thousand names are compared with one: what both begin and end with costs nothing, and no row is made anew.
fn distance(a: &[u8], b: &[u8], most: usize) -> Option<usize> {
    let same = |a: &u8, b: &u8| a.eq_ignore_ascii_case(b);
    let begin = a.iter().zip(b).take_while(|(a, b)| same(a, b)).count();
    let (a, b) = (&a[begin..], &b[begin..]);
    let end = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| same(a, b)).count();
    let (a, b) = (&a[..a.len() - end], &b[..b.len() - end]);
    #[cfg(test)]
    super::text::steps::add(a.len() * b.len());
    let mut rows = [[0; LONGEST + 4]; 3];
    rows[2].iter_mut().enumerate().for_each(|(j, cell)| *cell = j);
    for i in 1..=a.len() {
        rows.rotate_left(1);
        rows[2][0] = i;
        for j in 1..=b.len() {
            let replaced = rows[1][j - 1] + usize::from(!same(&a[i - 1], &b[j - 1]));
            let mut best = replaced.min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            if i > 1 && j > 1 && same(&a[i - 1], &b[j - 2]) && same(&a[i - 2], &b[j - 1]) {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = best;
        }
        // The best of a row is at most one more than that of the row before, and a swap leaves one row out.
        if rows[2][..=b.len()].iter().all(|cell| *cell > most + 1) {
            return None;
        }
    }
    Some(rows[2][b.len()]).filter(|distance| *distance <= most)
}

/// A longer word is no misspelt one.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_are_near() {
        let keys = ["Image", "Exec", "Environment", "EnvironmentFile", "Volume"];
        let guess = |word| nearest(word, keys.into_iter());
        assert_eq!(guess("image"), Some("Image"));
        assert_eq!(guess("Enviroment"), Some("Environment"));
        assert_eq!(guess("Volmue"), Some("Volume"));
        assert_eq!(guess("Exce"), Some("Exec"));
        assert_eq!(guess("Frobnicate"), None);
        assert_eq!(guess("X"), None);
        let away = |a: &str, b: &str| distance(a.as_bytes(), b.as_bytes(), 3);
        assert_eq!(
            [away("abcd", "badc"), away("abcdef", "bcdefa"), away("a", "A"), away("", "abc")],
            [Some(2), Some(2), Some(0), Some(3)]
        );
        assert_eq!(
            [away("abcdef", "uvwxyz"), away("xaby", "xcdefy"), away("kitten", "sitting")],
            [None, None, Some(3)]
        );
        assert_eq!(nearest("r", ["z", "Z", "ro", "rw", "U"].into_iter()), Some("ro"));
    }
}
