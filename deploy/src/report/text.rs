//! Tables for people, CSV and JSON for programs.

use std::fmt::Write;

use super::{EvaluationReport, SearchReport, Summary};

impl SearchReport {
    /// A line per match.
    pub fn table(&self) -> String {
        let mut lines =
            vec![["probe", "rank", "similarity", "match", "identity", "correct"].map(str::to_owned).to_vec()];
        for probe in &self.probes {
            let name = probe.path.display().to_string();
            if probe.matches.is_empty() {
                lines.push(vec![name.clone(), "-".into(), "-".into(), "no match".into(), String::new(), String::new()]);
            }
            for found in &probe.matches {
                lines.push(vec![
                    name.clone(),
                    found.rank.to_string(),
                    format!("{:.4}", found.similarity),
                    found.path.display().to_string(),
                    found.identity.clone(),
                    match found.correct {
                        Some(true) => "yes",
                        Some(false) => "no",
                        None => "?",
                    }
                    .into(),
                ]);
            }
        }
        let mut text = aligned(&lines);
        if let Some(summary) = &self.summary {
            text.push('\n');
            text.push_str(&summary.line());
        }
        text
    }

    /// A header line, then a line per match; a probe without match has one with rank empty.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "probe,probe_identity,rank,similarity,reranked_distance,match,match_identity,match_camera,correct\n",
        );
        for probe in &self.probes {
            let start = [quoted(&probe.path.to_string_lossy()), quoted(probe.identity.as_deref().unwrap_or_default())];
            if probe.matches.is_empty() {
                let _ = writeln!(text, "{},,,,,,,", start.join(","));
            }
            for found in &probe.matches {
                let end = [
                    found.rank.to_string(),
                    found.similarity.to_string(),
                    found.reranked_distance.map(|distance| distance.to_string()).unwrap_or_default(),
                    quoted(&found.path.to_string_lossy()),
                    quoted(&found.identity),
                    found.camera.map(|camera| camera.to_string()).unwrap_or_default(),
                    found.correct.map(|correct| correct.to_string()).unwrap_or_default(),
                ];
                let _ = writeln!(text, "{},{}", start.join(","), end.join(","));
            }
        }
        text
    }
}

impl EvaluationReport {
    /// CMC and mAP.
    pub fn table(&self) -> String {
        let reranked = if self.reranked { ", re-ranked" } else { "" };
        let (queries, entries) = (self.summary.queries, self.gallery_entries);
        let head = format!(
            "{} on {}: {queries} queries, {entries} gallery entries{reranked}\n",
            self.model.architecture, self.dataset
        );
        head + &self.summary.line()
    }

    /// First line of [`Self::csv`] lines.
    pub const CSV_HEADER: &str =
        "dataset,queries,valid_queries,gallery_entries,reranked,rank1,rank3,rank5,rank10,map\n";

    /// The line of values.
    pub fn csv(&self) -> String {
        let Summary { rank1, rank3, rank5, rank10, map, valid_queries, queries, .. } = &self.summary;
        let (name, entries, reranked) = (quoted(&self.dataset), self.gallery_entries, self.reranked);
        format!("{name},{queries},{valid_queries},{entries},{reranked},{rank1},{rank3},{rank5},{rank10},{map}\n")
    }
}

impl Summary {
    /// One line for people, in percent.
    pub fn line(&self) -> String {
        let Summary { rank1, rank3, rank5, rank10, map, valid_queries, queries, .. } = self;
        let [rank1, rank3, rank5, rank10, map] = [rank1, rank3, rank5, rank10, map].map(|share| 100.0 * share);
        format!(
            "Rank-1 {rank1:.2} %  Rank-3 {rank3:.2} %  Rank-5 {rank5:.2} %  Rank-10 {rank10:.2} %  mAP {map:.2} %  \
             ({valid_queries} of {queries} queries have a match)\n"
        )
    }
}

/// Columns two spaces apart, as wide as their widest cell.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// A CSV field; quoted where it must be.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_are_quoted() {
        assert_eq!(quoted("a b.jpg"), "a b.jpg");
        assert_eq!(quoted("a,\"b\".jpg"), "\"a,\"\"b\"\".jpg\"");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [vec!["é".to_owned(), "x".to_owned()], vec!["long".to_owned(), "y".to_owned()]];
        assert_eq!(aligned(&lines), "é     x\nlong  y\n");
    }
}
