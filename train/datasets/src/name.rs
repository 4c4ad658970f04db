//! What a file name says: identity and camera, in the spelling of Market-1501, and the natural order of names.

use std::cmp::Ordering;
use std::path::Path;

/// Numbers of cameras are below this: they fit into 32 bits, and joining sets adds them up.
pub(super) const MAX_CAMERA: i64 = u32::MAX as i64;

/// Identity and camera in a picture's file name, `0002_c1s1_000451_03.jpg` → identity 2 as written (`0002`), camera 0.
///
/// The first match is taken: digits, a minus before them if there is one, `_c` and the digits of the camera, all of
/// them, which names count from 1. The folders above play no part. `None` if nothing matches, the camera is 0 or a
/// number is too large: one of a camera has 32 bits.
pub fn parse(path: &Path) -> Option<(i64, &str, i64)> {
    fields(path).filter(|(_, _, camera)| *camera > 0).map(|(identity, text, camera)| (identity, text, camera - 1))
}

/// [`parse`] with the camera as in the name, which 0 is too.
pub(super) fn fields(path: &Path) -> Option<(i64, &str, i64)> {
    let name = path.file_name()?.as_encoded_bytes();
    let mut from = 0;
    while let Some(at) = name[from..].windows(2).position(|pair| pair == b"_c").map(|at| at + from) {
        from = at + 2;
        let digits = name[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let camera = name[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || camera == 0 {
            continue;
        }
        let mut start = at - digits;
        // A minus between digits is a separator, as in a date, not a sign.
        if start > 0 && name[start - 1] == b'-' && !(start > 1 && name[start - 2].is_ascii_digit()) {
            start -= 1;
        }
        let text = |range: &'_ [u8]| -> Option<i64> { std::str::from_utf8(range).ok()?.parse().ok() };
        let camera = text(&name[from..from + camera]).filter(|camera| *camera < MAX_CAMERA)?;
        return Some((text(&name[start..at])?, std::str::from_utf8(&name[start..at]).ok()?, camera));
    }
    None
}

/// Natural order of names: runs of digits by their value, so `s2` comes before `s10`; everything else by its bytes.
/// Names that differ only in leading zeros are told apart by their bytes, so that the order is total.
pub fn natural(left: &Path, right: &Path) -> Ordering {
    let (mut l, mut r) = (left.components(), right.components());
    loop {
        match (l.next(), r.next()) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                return natural_bytes(a.as_os_str().as_encoded_bytes(), b.as_os_str().as_encoded_bytes());
            }
            (a, b) => return a.is_some().cmp(&b.is_some()),
        }
    }
}

fn natural_bytes(left: &[u8], right: &[u8]) -> Ordering {
    let (mut l, mut r) = (left, right);
    while let (Some(a), Some(b)) = (l.first(), r.first()) {
        if a.is_ascii_digit() && b.is_ascii_digit() {
            let (a, rest_l) = digits(l);
            let (b, rest_r) = digits(r);
            let by_value = a.len().cmp(&b.len()).then(a.cmp(b));
            if by_value.is_ne() {
                return by_value;
            }
            (l, r) = (rest_l, rest_r);
        } else if a != b {
            return a.cmp(b);
        } else {
            (l, r) = (&l[1..], &r[1..]);
        }
    }
    l.len().cmp(&r.len()).then(left.cmp(right))
}

/// The leading run of digits without its zeros, of any length, and what follows.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let zeros = text[..end].iter().take_while(|byte| **byte == b'0').count();
    (&text[zeros..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_and_camera() {
        let cases = [
            ("0002_c1s1_000451_03.jpg", Some((2, "0002", 0))),
            ("-1_c3s2_000451_03.jpg", Some((-1, "-1", 2))),
            ("0000_c6s3_000451_03.jpg", Some((0, "0000", 5))),
            ("0005_c2_f0046985.jpg", Some((5, "0005", 1))),
            ("0012_c13_0007.jpg", Some((12, "0012", 12))),
            ("1467_c1_6.png", Some((1467, "1467", 0))),
            ("img_0007_c2.jpg", Some((7, "0007", 1))),
            ("2020-01-05_c3.jpg", Some((5, "05", 2))),
            ("x_c1_0007_c2.jpg", Some((7, "0007", 1))),
            ("7_cat_0008_c4.jpg", Some((8, "0008", 3))),
            ("0002_c0.jpg", None),
            ("0002_C1.jpg", None),
            ("_c1.jpg", None),
            ("0002_c.jpg", None),
            ("0002.jpg", None),
            ("99999999999999999999_c1.jpg", None),
            ("1_c99999999999999999999.jpg", None),
            ("1_c4294967295.jpg", None),
            ("0002_c1s1/portrait.jpg", None),
            ("grüße_0003_c2.jpg", Some((3, "0003", 1))),
        ];
        for (name, expected) in cases {
            assert_eq!(parse(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn numbers_by_value_then_by_spelling() {
        let sorted = ["s1", "s2", "s02", "s10", "s10a", "s99999999999999999999998", "s99999999999999999999999", "t"];
        let mut names = sorted;
        names.reverse();
        names.sort_by(|a, b| natural(Path::new(a), Path::new(b)));
        // `s2` and `s02` have one value; the bytes decide.
        assert_eq!(names, ["s1", "s02", "s2", "s10", "s10a", sorted[5], sorted[6], "t"]);
        let mut paths = ["b/1", "a/10", "a/9", "a", "a-1/2"].map(Path::new);
        paths.sort_by(|a, b| natural(a, b));
        assert_eq!(paths, ["a", "a/9", "a/10", "a-1/2", "b/1"].map(Path::new));
    }
}
