//! The word that was probably meant.

use super::Said;

/// The nearest of the candidates, if it is near enough for a guess: equal but for case, or at most a third of its letters away.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    let letters = letters(&lower);
    candidates
        .filter_map(|candidate| {
            if candidate.len().abs_diff(word.len()) > 3 || word.len() > 64 {
                return None;
            }
            let most = (candidate.len() / 3).clamp(1, 3);
            // An edit changes two letters at most: ten thousand names are looked at, and few compared.
            if (letters ^ self::letters(candidate)).count_ones() as usize > 2 * most {
                return None;
            }
            let distance = distance(&lower, &candidate.to_ascii_lowercase());
            // Of two that are equally near, the one that is as long: letters are swapped more often than forgotten.
            let length = candidate.len().abs_diff(word.len());
            // Of one letter nothing is left when it is replaced.
            let near = distance <= most && distance < candidate.len();
            near.then_some((distance, length, candidate))
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

/// Edits (insert, remove, replace, swap of neighbours) from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    #[cfg(test)]
    super::text::steps::add(a.len() * b.len());
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: [Vec<usize>; 3] = [vec![], vec![], (0..=b.len()).collect()];
    for i in 1..=a.len() {
        rows.rotate_left(1);
        rows[2] = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2].push(best);
        }
    }
    rows[2][b.len()]
}

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
        assert_eq!(nearest("r", ["z", "Z", "ro", "rw", "U"].into_iter()), Some("ro"));
    }
}
