//! What a picture's path says: whose hand, under which light, which sample, which session.

use std::path::Path;

use regex_lite::{Captures, Regex};

use super::{PairLayout, PairOptions};
use crate::DatasetError;
use crate::identity::text_of;

/// What the path of one picture, relative to the dataset's folder, says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Subject and hand, `001_l`.
    pub(super) identity: String,
    /// Spectrum or folder, lower case; compared with the requested bands.
    pub(super) band: String,
    /// The key that palm and vein of one pair share.
    pub(super) key: String,
    /// From 1.
    pub(super) session: u32,
}

/// How the paths of a layout are read.
#[derive(Debug)]
pub(super) struct Scheme {
    regex: Regex,
    /// Number of samples in the first session, where names do not contain the session.
    first_session: Option<u32>,
    /// Names of the palm and of the vein band, lower case; the first that exists is taken.
    pub(super) palm: Vec<String>,
    pub(super) vein: Vec<String>,
    /// A path of the right form, for messages.
    pub(super) example: &'static str,
}

/// `<subject>_<l|r>_<band>_<index>`: CASIA's multispectral palms, in whatever folders.
const CASIA: &str = r"(?i)(?:^|/)(?<subject>\d+)_(?<hand>[lr])_(?<band>[a-z0-9]+)_(?<index>\d+)\.[a-z]+$";

/// `<band>/<palm>/<session>_<index>` and its relatives: PolyU's, which is distributed as
/// `Multispectral_<R|G|B|I>/<palm>/<session>_<index>_s.bmp`.
const POLYU: &str = concat!(
    r"(?i)^(?:.*/)?(?<band>red|green|blue|nir|multispectral_[rgbi])(?:_?multispectral)?/(?:(?<subject>[^/]+)/)",
    r"(?:s?(?<session>[12])[-_/])?(?<index>[^/_]+)(?:_s)?\.[a-z]+$"
);

/// `<band>/session<1|2>/<n>`, ten consecutive pictures of each palm: Tongji's, also with its own folder `ROI` between.
const TONGJI: &str = r"(?i)^(?:.*?/)??(?<band>[^/]+)/(?:roi/)?(?:session|s)_?(?<session>[12])/(?<index>\d+)\.[a-z]+$";

/// `<band>/<identity>/…/<n>`.
const PLAIN: &str = r"^(?<band>[^/]+)/(?<subject>[^/]+)/(?<index>.+)\.[A-Za-z]+$";

/// Pictures of one palm in a session of the Tongji sets.
const TONGJI_SAMPLES: usize = 10;

impl Scheme {
    pub(super) fn of(layout: PairLayout, options: &PairOptions) -> Result<Self, DatasetError> {
        let (pattern, first_session, palm, vein, example): (&str, _, &[&str], &[&str], _) = match layout {
            PairLayout::Casia => (CASIA, Some(3), &["wht", "460"], &["940", "850"], "001_l_940_01.jpg"),
            PairLayout::PolyU => {
                (POLYU, Some(6), &["red", "multispectral_r"], &["nir", "multispectral_i"], "Red/0001/1.bmp")
            }
            PairLayout::Tongji => {
                (TONGJI, None, &["palmprint", "palm", "roi"], &["palmvein", "vein"], "palmvein/session1/00001.bmp")
            }
            _ => (PLAIN, None, &["palm"], &["vein"], "palm/001_l/1.png"),
        };
        let pattern = options.pattern.as_deref().unwrap_or(pattern);
        let refused = |problem: String| DatasetError::Pattern { pattern: pattern.to_owned(), problem };
        let regex = Regex::new(pattern).map_err(|error| refused(error.to_string()))?;
        for group in ["band", "index"] {
            if !regex.capture_names().flatten().any(|name| name == group) {
                return Err(refused(format!("it has no group `{group}`")));
            }
        }
        let named = |asked: &Option<String>, usual: &[&str]| match asked {
            Some(name) => vec![name.to_lowercase()],
            None => usual.iter().map(|name| (*name).to_owned()).collect(),
        };
        let (palm, vein) = (named(&options.palm, palm), named(&options.vein, vein));
        Ok(Self { regex, first_session, palm, vein, example })
    }

    /// What the path, relative to the dataset's folder, says; `None` if it does not match.
    pub(super) fn read(&self, relative: &Path) -> Option<Named> {
        let text: Vec<_> = relative.iter().map(text_of).collect();
        let text = text.join("/");
        let found = self.regex.captures(&text)?;
        let group = |name: &str| found.name(name).map(|group| group.as_str());
        let index = group("index")?;
        let number = trailing_number(index);
        let session = match group("session") {
            Some(session) => session.parse().ok()?,
            None => match (self.first_session, number) {
                (Some(first), Some(number)) if number > first => 2,
                _ => 1,
            },
        };
        let identity = match group("subject") {
            Some(_) => identity(&found),
            // Numbered throughout, so many consecutive pictures for each palm.
            None => format!("{:04}", (number?.max(1) as usize - 1) / TONGJI_SAMPLES + 1),
        };
        let key = format!("{session}/{index}");
        Some(Named { identity, band: group("band")?.to_lowercase(), key, session })
    }
}

/// Subject and hand. Only the hand's first letter counts, so that `L`, `l` and `left` are the same.
fn identity(found: &Captures) -> String {
    let subject = found.name("subject").map_or("", |group| group.as_str());
    match found.name("hand").and_then(|group| group.as_str().chars().next()) {
        Some(hand) => format!("{subject}_{}", hand.to_lowercase()),
        None => subject.to_owned(),
    }
}

fn trailing_number(index: &str) -> Option<u32> {
    let digits = index.len() - index.bytes().rev().take_while(u8::is_ascii_digit).count();
    index[digits..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(layout: PairLayout, path: &str) -> Option<(String, String, String, u32)> {
        let scheme = Scheme::of(layout, &PairOptions::default()).unwrap();
        scheme.read(Path::new(path)).map(|named| (named.identity, named.band, named.key, named.session))
    }

    #[test]
    fn published_names() {
        let named = |identity: &str, band: &str, key: &str, session| {
            Some((identity.to_owned(), band.to_owned(), key.to_owned(), session))
        };
        let cases = [
            (PairLayout::Casia, "001_l_940_02.jpg", named("001_l", "940", "1/02", 1)),
            (PairLayout::Casia, "a/b/100_R_WHT_06.JPG", named("100_r", "wht", "2/06", 2)),
            (PairLayout::Casia, "001_x_940_02.jpg", None),
            (PairLayout::PolyU, "Red/0001/1_3.bmp", named("0001", "red", "1/3", 1)),
            (PairLayout::PolyU, "PolyU/NIR/0500/12.jpg", named("0500", "nir", "2/12", 2)),
            (PairLayout::PolyU, "NIR_Multispectral/0500/s2_4.jpg", named("0500", "nir", "2/4", 2)),
            (PairLayout::PolyU, "Multispectral_I/001/2_01_s.bmp", named("001", "multispectral_i", "2/01", 2)),
            (PairLayout::PolyU, "PolyU/Multispectral_R/001/1_06_s.bmp", named("001", "multispectral_r", "1/06", 1)),
            (PairLayout::Tongji, "palmvein/session2/00011.bmp", named("0002", "palmvein", "2/00011", 2)),
            (PairLayout::Tongji, "palmprint/session1/00010.bmp", named("0001", "palmprint", "1/00010", 1)),
            (PairLayout::Tongji, "sets/palmprint/ROI/session1/00010.bmp", named("0001", "palmprint", "1/00010", 1)),
            (PairLayout::Tongji, "ROI/session1/00010.bmp", named("0001", "roi", "1/00010", 1)),
            (PairLayout::Plain, "palm/007/x/2.png", named("007", "palm", "1/x/2", 1)),
            (PairLayout::Plain, "palm/2.png", None),
        ];
        for (layout, path, expected) in cases {
            assert_eq!(read(layout, path), expected, "{path}");
        }
    }

    #[test]
    fn a_custom_pattern() {
        let pattern = Some(r"p(?<subject>\d+)(?<hand>left|right)-(?<band>\w+)-(?<session>\d)-(?<index>\d+)".to_owned());
        let scheme = Scheme::of(PairLayout::Casia, &PairOptions { pattern, ..PairOptions::default() }).unwrap();
        let named = scheme.read(Path::new("x/p12left-NIR-2-7.png")).unwrap();
        assert_eq!((named.identity.as_str(), named.band.as_str(), named.session), ("12_l", "nir", 2));
        let message = |pattern: &str| {
            let options = PairOptions { pattern: Some(pattern.into()), ..PairOptions::default() };
            Scheme::of(PairLayout::Casia, &options).unwrap_err().to_string()
        };
        assert!(message("(").contains("pattern `(`"), "{}", message("("));
        assert!(message(r"(?<band>x)").contains("no group `index`"));
    }
}
