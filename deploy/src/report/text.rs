//! Tables for people, CSV and JSON for programs.

use std::fmt::Write as _;

use files::table::Writer;

use crate::pictures::path_text;

use super::{EvaluationReport, Score, SearchReport, Summary};

impl SearchReport {
    /// A line per match, or per person where people were searched for; then what the threshold means.
    pub fn table(&self) -> String {
        let by_subject = self.fusion.is_some();
        let head: &[&str] = match by_subject {
            true => &["probe", "rank", "person", "similarity", "templates", "most similar", "correct"],
            false => &["probe", "rank", "similarity", "match", "identity", "correct"],
        };
        let mut lines = vec![head.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()];
        for probe in &self.probes {
            let name = path_text(&probe.path).into_owned();
            if probe.matches.is_empty() {
                let nobody = if by_subject { "nobody" } else { "no match" };
                let cells = if by_subject { vec!["-", nobody] } else { vec!["-", "-", nobody] };
                lines.push(std::iter::once(name.clone()).chain(cells.into_iter().map(str::to_owned)).collect());
            }
            for found in &probe.matches {
                let (rank, similarity) = (found.rank.to_string(), format!("{:.4}", found.similarity));
                let path = path_text(&found.path).into_owned();
                let correct = match found.correct {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "?",
                };
                let mut line = vec![name.clone(), rank];
                if by_subject {
                    let templates = found.templates.map_or_else(String::new, |count| count.to_string());
                    line.extend([found.identity.clone(), similarity, templates, path]);
                } else {
                    line.extend([similarity, path, found.identity.clone()]);
                }
                line.push(correct.to_owned());
                lines.push(line);
            }
        }
        let mut text = aligned(&lines);
        if let Some(summary) = &self.summary {
            text.push('\n');
            text.push_str(&summary.lines());
        }
        if let Some(decision) = &self.decision {
            let _ = write!(text, "\n{}\n", decision.meaning.join("\n"));
        }
        text
    }

    /// A header line, then a line per match; a probe without match has one with rank empty.
    pub fn csv(&self) -> String {
        let mut table = Writer::for_people(&[
            "probe",
            "probe_identity",
            "rank",
            "similarity",
            "reranked_distance",
            "match",
            "match_identity",
            "match_camera",
            "correct",
        ]);
        for probe in &self.probes {
            let path = path_text(&probe.path);
            let start = [path.as_ref(), probe.identity.as_deref().unwrap_or_default()];
            if probe.matches.is_empty() {
                table.row(start.into_iter().chain([""; 7]));
            }
            for found in &probe.matches {
                let end = [
                    found.rank.to_string(),
                    found.similarity.to_string(),
                    found.reranked_distance.map(|distance| distance.to_string()).unwrap_or_default(),
                    path_text(&found.path).into_owned(),
                    found.identity.clone(),
                    found.camera.map(|camera| camera.to_string()).unwrap_or_default(),
                    found.correct.map(|correct| correct.to_string()).unwrap_or_default(),
                ];
                table.row(start.into_iter().chain(end.iter().map(String::as_str)));
            }
        }
        table.finish()
    }
}

impl EvaluationReport {
    /// CMC, mAP and mINP.
    pub fn table(&self) -> String {
        let reranked = if self.reranked { ", re-ranked" } else { "" };
        let expanded = self.expanded.map(|k| format!(", each query expanded by {k} entries")).unwrap_or_default();
        let (queries, entries) = (self.score.queries(), self.gallery_entries);
        let head = format!(
            "{} on {}: {queries} queries, {entries} gallery entries{expanded}{reranked}\n",
            self.model.architecture, self.dataset
        );
        let single_shot = self.single_shot.as_ref().map(|cmc| {
            let [rank1, rank5, rank10] = [1, 5, 10].map(|rank| 100.0 * cmc[rank - 1]);
            format!(
                "one picture of each person in the gallery: Rank-1 {rank1:.2} %  Rank-5 {rank5:.2} %  Rank-10 \
                 {rank10:.2} %\n"
            )
        });
        match &self.score {
            Score::Measured(summary) => head + &summary.lines() + &single_shot.unwrap_or_default(),
            Score::Nothing { reason, .. } => format!("{head}nothing to score: {reason}\n"),
        }
    }

    /// A header line, then a line of numbers for each report; one with nothing to score has counts only.
    pub fn csv(reports: &[Self]) -> String {
        let columns = [
            "dataset",
            "queries",
            "valid_queries",
            "gallery_entries",
            "reranked",
            "rank1",
            "rank3",
            "rank5",
            "rank10",
            "map",
            "minp",
            "rank1_low",
            "rank1_high",
            "map_low",
            "map_high",
            "minp_low",
            "minp_high",
        ];
        let mut table = Writer::for_people(&columns);
        for report in reports {
            let (valid_queries, shares) = match &report.score {
                Score::Measured(Summary {
                    rank1, rank3, rank5, rank10, map, minp, intervals, valid_queries, ..
                }) => {
                    let mut shares = [rank1, rank3, rank5, rank10, map, minp].map(|share| share.to_string()).to_vec();
                    let ends = intervals.map(|of| [of.rank1, of.map, of.minp].map(|of| [of.low, of.high]));
                    shares.extend(ends.iter().flatten().flatten().map(|share| share.to_string()));
                    (*valid_queries, shares)
                }
                Score::Nothing { .. } => (0, Vec::new()),
            };
            let counts = [report.score.queries(), valid_queries, report.gallery_entries].map(|count| count.to_string());
            let start = [report.dataset.clone()].into_iter().chain(counts).chain([report.reranked.to_string()]);
            let mut row: Vec<String> = start.chain(shares).collect();
            row.resize(columns.len(), String::new());
            table.row(row);
        }
        table.finish()
    }
}

impl Score {
    fn queries(&self) -> usize {
        match self {
            Self::Measured(summary) => summary.queries,
            Self::Nothing { queries, .. } => *queries,
        }
    }
}

impl Summary {
    /// For people, in percent: a line of means, and one of their intervals.
    pub fn lines(&self) -> String {
        let Summary { rank1, rank3, rank5, rank10, map, minp, intervals, valid_queries, queries, .. } = self;
        let [rank1, rank3, rank5, rank10, map, minp] =
            [rank1, rank3, rank5, rank10, map, minp].map(|share| 100.0 * share);
        let mut text = format!(
            "Rank-1 {rank1:.2} %  Rank-3 {rank3:.2} %  Rank-5 {rank5:.2} %  Rank-10 {rank10:.2} %  mAP {map:.2} %  \
             mINP {minp:.2} %  ({valid_queries} of {queries} queries have a match)\n"
        );
        if let Some(intervals) = intervals {
            text.push_str(&::report::intervals(intervals));
            text.push('\n');
        }
        text
    }
}

/// Columns two spaces apart, as wide as their widest cell; control characters are written out.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let lines: Vec<Vec<String>> = lines
        .iter()
        .map(|line| line.iter().map(|cell| terminal::printable(cell).replace(['\n', '\t'], " ")).collect())
        .collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// `9150000` as `9,150,000`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_threes() {
        assert_eq!([0, 999, 1000, 9_150_000].map(thousands), ["0", "999", "1,000", "9,150,000"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [vec!["é".to_owned(), "x".to_owned()], vec!["long".to_owned(), "y".to_owned()]];
        assert_eq!(aligned(&lines), "é     x\nlong  y\n");
        assert_eq!(aligned(&[vec!["\u{1b}[2J\n".to_owned(), "y".to_owned()]]), "\\u{1b}[2J   y\n");
    }
}
