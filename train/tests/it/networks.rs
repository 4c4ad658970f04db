//! Networks without checkpoints: what `train inspect --model` tells, and that the documentation tells the same.

use std::path::Path;

use train::families::reid::net::{Network, ReidNetConfig};

use crate::support::train;

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap());
    groups.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_documentation_lists_every_network() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/networks.md");
    let document = std::fs::read_to_string(document).unwrap();
    let row = |name: &str| {
        let config = ReidNetConfig::new(name, 751, 512).unwrap();
        let cost = config.cost([384, 128]);
        format!(
            "| `{name}` | {} | {} | {} | {} × {} |",
            config.net.about().trim_end_matches('.'),
            grouped(cost.parameters as u64),
            grouped(cost.multiply_adds),
            cost.parts,
            config.net.features()
        )
    };
    let wanted: Vec<_> = Network::names().into_iter().map(row).collect();
    let found: Vec<_> = document.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(found, wanted, "docs/networks.md should have these rows:\n{}", wanted.join("\n"));
}

#[test]
fn a_network_is_inspected_without_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let words = ["inspect", "--model", "pcb", "--with", "parts=3", "--with", "attention=se", "--num-classes", "10"];
    let table = train(at, &words).ok().stdout;
    assert!(table.starts_with("PCB with --parts 3 and --attention se: "), "{table}");
    assert!(table.contains("embedding      2048 values: 4 × 512"), "{table}");
    let json = train(at, &["inspect", "--model", "OSNet_x0_25", "--height", "256", "--format", "json"]).ok().stdout;
    let facts: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&facts["parameters"], &facts["size"]), (&587_127.into(), &serde_json::json!([256, 128])));
    assert!(facts["multiply_adds"].as_u64().unwrap() > 80_000_000);
    for (words, facts) in [
        (&["inspect", "--model", "LMBN_x"][..], &["`LMBN_x`", "LMBN_r"][..]),
        (&["inspect", "--model", "OSNet", "--with", "parts=3"], &["`parts`", "PCB"]),
        (&["inspect", "--model", "PCB", "--with", "parts"], &["--with", "`parts`"]),
        (&["inspect", "--model", "PCB", "--with", "parts=0"], &["--parts", "0"]),
        (&["inspect", "--model", "PCB", "--channels"], &["--channels"]),
        (&["inspect", "run", "--height", "256"], &["--height", "--model"]),
        (&["inspect"], &["<CHECKPOINT>"]),
    ] {
        train(at, words).refused(facts);
    }
}
