//! `export --ops`: what becomes of every kind of operation that Burn knows.

use export::{BURN_VERSION, OPSETS, OperationKind, Support, operation_kinds};

use super::format::Format;

/// The whole table, and its sums.
pub fn report(format: Format) -> String {
    let kinds: Vec<&OperationKind> = operation_kinds().collect();
    let count = |wanted: fn(Support) -> bool| kinds.iter().filter(|kind| wanted(kind.support)).count();
    let lowered = count(|support| matches!(support, Support::Lowered { .. }));
    let refused = count(|support| matches!(support, Support::Refused { .. }));
    let backward: Vec<String> =
        kinds.iter().filter(|kind| kind.support == Support::Backward).map(|kind| kind.to_string()).collect();
    if format == Format::Json {
        let report = serde_json::json!({
            "burn": BURN_VERSION,
            "forward": lowered + refused,
            "lowered": lowered,
            "refused": refused,
            "backward": backward.len(),
            "kinds": kinds,
        });
        return format!("{report}\n");
    }
    let width = kinds.iter().map(|kind| kind.to_string().len()).max().unwrap_or(0);
    let mut report = format!("{:width$}  sets    ONNX\n", "Burn");
    let mut notes: Vec<&str> = vec![];
    for kind in &kinds {
        let name = kind.to_string();
        match kind.support {
            Support::Lowered { onnx, since, until, note } => {
                let sets = format!("{since}-{}", until.unwrap_or(*OPSETS.end()));
                report.push_str(&format!("{name:width$}  {sets:6}  {}", onnx.join(", ")));
                if let Some(note) = note {
                    let known = notes.iter().position(|known| *known == note).unwrap_or(notes.len());
                    if known == notes.len() {
                        notes.push(note);
                    }
                    report.push_str(&format!(" [{}]", known + 1));
                }
                report.push('\n');
            }
            Support::Refused { reason, way_out } => {
                report.push_str(&format!("{name:width$}          not lowered: {reason}; {way_out}\n"));
            }
            Support::Backward | Support::Bookkeeping => {}
        }
    }
    for (number, note) in (1..).zip(&notes) {
        report.push_str(&format!("\n[{number}] {note}\n"));
    }
    report.push_str(&format!("\n{} forward kinds of Burn {BURN_VERSION}: ", lowered + refused));
    report.push_str(&format!("{lowered} lowered, {refused} not\n"));
    report.push_str(&format!(
        "{} kinds of backward passes are out of scope: {}\n",
        backward.len(),
        backward.join(", ")
    ));
    report
}
