//! One page for everything that is written for a browser: one style sheet, light and dark, nothing loaded.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::chart;

/// Style of every page.
const STYLE: &str = include_str!("page.css");

/// A page of its own: style and pictures inside, so that it opens without a network. `body` comes below the title.
pub fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(chart::style())) (PreEscaped(STYLE)) }
            }
            body { h1 { (title) } (body) }
        }
    }
    .into_string()
}

/// The file of one page of several: `report.html` of `market1501` is `report-market1501.html`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = if path.extension().is_some() { format!(".{}", part(path.extension())) } else { String::new() };
    path.with_file_name(format!("{}-{suffix}{extension}", part(path.file_stem())))
}

/// Lines of name and value.
pub fn rows<N: AsRef<str>>(lines: &[(N, String)]) -> Markup {
    html! {
        div.scroll {
            table { @for (name, value) in lines { tr { th scope="row" { (name.as_ref()) } td { (value) } } } }
        }
    }
}

/// A picture inside a page, as a `data:` URI; `kind` is `png` or `jpeg`.
pub fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let hostile = "<script>alert('x')</script>\"&";
        let page = page(hostile, &rows(&[(hostile, hostile.to_owned())]));
        assert!(!page.contains("<script") && page.matches("&lt;script&gt;").count() == 4, "{page}");
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    }

    /// Marks of charts have classes of their own: a rule for the same word elsewhere would move them.
    #[test]
    fn no_rule_of_a_page_is_one_of_its_charts() {
        for class in ["title", "grid", "frame", "guide", "line", "dot", "bar", "label"] {
            let word = format!(".{class}");
            for (at, _) in STYLE.match_indices(&word) {
                let ends = !STYLE[at + word.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '-');
                assert!(
                    !ends || STYLE[..at].ends_with(".chart "),
                    "{word} in {}",
                    &STYLE[at.saturating_sub(60)..at + 20]
                );
            }
        }
    }

    #[test]
    fn a_page_loads_nothing() {
        let page = page("Title", &html! { p { "text" } });
        for outside in ["http", "//", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside} in {page}");
        }
    }
}
