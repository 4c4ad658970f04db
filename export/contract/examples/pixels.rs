//! Writes what our decoder and resizer make of pictures, for `ci/pictures.py` to compare with Pillow's.
//!
//! Reads lines of a path, or of `filter height width path` with tabs between; writes for each width and height as
//! 32-bit numbers and the RGB pixels, or two zeros, the length of a message, and the message.

use std::io::{BufWriter, Write};
use std::path::Path;

use contract::Filter;
use contract::preprocess::{decode, resize};

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split('\t').collect();
        let (path, size) = match words[..] {
            [filter, height, width, path] => {
                let filter: Filter = serde_json::from_value(filter.into())?;
                let number = |text: &str| text.parse().map_err(std::io::Error::other);
                (path, Some((filter, [number(height)?, number(width)?])))
            }
            _ => (line.as_str(), None),
        };
        let picture = decode(Path::new(path)).map(|picture| match size {
            Some((filter, size)) => resize(&picture, size, filter),
            None => picture,
        });
        match picture {
            Ok(picture) => {
                out.write_all(&picture.width().to_le_bytes())?;
                out.write_all(&picture.height().to_le_bytes())?;
                out.write_all(picture.as_raw())?;
            }
            Err(error) => {
                let text = error.to_string();
                out.write_all(&[0; 8])?;
                out.write_all(&(text.len() as u32).to_le_bytes())?;
                out.write_all(text.as_bytes())?;
            }
        }
    }
    out.flush()
}
