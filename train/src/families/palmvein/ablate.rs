//! `train palmvein ablate`: the head with parts left out, on the same pairs, from the same backbones.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use files::table::Writer;
use metrics::verification::{Drawn, Interval, VerificationReport, interval_of_means};
use serde::Serialize;
use serde_json::json;

use crate::device;
use crate::families::palmvein::cli::AblateArgs;
use crate::families::palmvein::data::PairPictures;
use crate::families::palmvein::net::{Branch, PalmVeinNet, PalmVeinNetConfig, Parts, load_whole};
use crate::families::palmvein::runs::Stage2Run;
use crate::families::palmvein::{FAMILY, FusionKind, Stage2Config, Stage2Task, embed_pairs, stage1_weights, verify};
use crate::run::checkpoint::Checkpoint;
use crate::run::engine::Outcome;
use crate::run::flags::Format;
use crate::run::settings::{Layers, resolve};
use crate::run::start::Plan;
use crate::weights::StateDict;

/// The heads that are compared.
const HEADS: [(&str, Parts, FusionKind); 8] = [
    ("palm-only", Parts::PalmOnly, FusionKind::Vector),
    ("vein-only", Parts::VeinOnly, FusionKind::Vector),
    ("global-only", Parts::GlobalOnly, FusionKind::Vector),
    ("local-only", Parts::LocalOnly, FusionKind::Vector),
    ("concat", Parts::Concat, FusionKind::Vector),
    ("mean", Parts::Mean, FusionKind::Vector),
    ("channel", Parts::Attention, FusionKind::Vector),
    ("spatial", Parts::Attention, FusionKind::Spatial),
];

/// Draws of identities for an interval.
const RESAMPLES: usize = 200;

/// Place of 1 % among the false accept rates that [`verify`] reports.
const ONE_PERCENT: usize = 1;

/// One head's row of the table. Means over seeds; intervals are 95 %.
#[derive(Debug, Serialize)]
struct Row {
    head: &'static str,
    parameters: usize,
    runs: u64,
    eer: f64,
    eer_std: f64,
    eer_interval: Option<[f64; 2]>,
    tar: f64,
    tar_interval: Option<[f64; 2]>,
    auc: f64,
    rank1: f64,
}

pub fn ablate(args: &AblateArgs) -> anyhow::Result<ExitCode> {
    let known = HEADS.map(|(name, ..)| name);
    if let Some(unknown) = args.ablation.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("--ablation names `{unknown}`; known: {}", known.join(", "));
    }
    if args.seeds == 0 {
        bail!("--seeds is 0; 1 and more are allowed");
    }
    let layers = Layers { file: args.config.as_deref(), ..Layers::default() };
    let (config, origins) = resolve::<Stage2Config>(&args.flags, layers)?;
    if let Some(compared) = ["parts", "mode"].into_iter().find(|setting| origins[*setting] != "default") {
        bail!("--{compared} is what is compared here; --ablation chooses from {}", known.join(", "));
    }
    if !config.from_scratch {
        // Looked for first: the last head may want what the first did not.
        for branch in config.network(1).branches() {
            stage1_weights(&config, branch).map_err(anyhow::Error::from_boxed)?;
        }
    }
    let plain = device::open(args.device)?;
    let mut rows = Vec::new();
    for (head, parts, mode) in HEADS {
        if !args.ablation.is_empty() && !args.ablation.iter().any(|name| name == head) {
            continue;
        }
        let (mut found, mut parameters) = (Vec::new(), 0);
        for offset in 0..args.seeds {
            let mut config = Stage2Config { parts, mode, ..config.clone() };
            // The split stays that of the first seed: all are tested on the same people.
            let split = config.common.pairs();
            config.common.seed += offset;
            config.check()?;
            let dir = args.output.join(format!("{head}-{}", config.common.seed));
            terminal::tell!("{head}, seed {}", config.common.seed);
            let family = Stage2Run { split: Some(split.clone()), quiet: true };
            let plan = Plan::in_directory(config.clone(), dir.clone(), plain.clone(), args.overwrite)?;
            if plan.is_finished() {
                terminal::tell!("`{}` is finished", dir.display());
            } else if let Outcome::Interrupted { .. } = plan.validate(&family)?.claim()?.train(&family)? {
                terminal::tell!("the same command goes on from here");
                return Ok(ExitCode::from(130));
            }
            let Some(best) = Checkpoint::best(&dir)? else {
                bail!("`{}` has no best network: its validation pairs decide nothing", dir.display());
            };
            let network: PalmVeinNetConfig = best.network(FAMILY)?;
            let mut net = PalmVeinNet::new(&network, config.common.seed, &plain)?;
            load_whole(&best.path, head, &mut net)?;
            let task = Stage2Task::with_pairs(&config, &split, &plain).map_err(anyhow::Error::from_boxed)?;
            let test = PairPictures::new(&task.data().test, config.common.size(), 0);
            let rows = embed_pairs(&net, &Arc::new(test), &config.common, None).map_err(anyhow::Error::from_boxed)?;
            let Some(measured) = verify(&rows, RESAMPLES).map_err(anyhow::Error::from_boxed)? else {
                bail!("the test pairs hold no two pairs of one hand, or no two hands: there is nothing to compare");
            };
            let own = |key: &str| {
                Branch::ALL.iter().any(|branch| key.starts_with(branch.name())) || key.starts_with("fusion.")
            };
            let state: StateDict = StateDict::of(&net)
                .iter()
                .filter(|(key, _)| own(key) && !key.contains("arcface"))
                .map(|(key, data)| (key.to_owned(), data.clone()))
                .collect();
            parameters = state.parameters();
            found.push(measured);
        }
        let mean = |of: fn(&VerificationReport) -> f64| found.iter().map(of).sum::<f64>() / found.len() as f64;
        let eer = mean(|found| found.eer.rate);
        let spread = found.iter().map(|found| (found.eer.rate - eer).powi(2)).sum::<f64>();
        let interval = |of: fn(&Drawn) -> f64| interval_of_means(&found, of).map(|Interval { low, high }| [low, high]);
        rows.push(Row {
            head,
            parameters,
            runs: args.seeds,
            eer,
            eer_std: (spread / (found.len() as f64 - 1.0).max(1.0)).sqrt(),
            eer_interval: interval(|drawn| drawn.eer),
            tar: mean(|found| found.tar[ONE_PERCENT].point.tar),
            tar_interval: interval(|drawn| drawn.tar[ONE_PERCENT]),
            auc: mean(|found| found.auc),
            rank1: mean(|found| found.identification.as_ref().map_or(0.0, |found| found.leave_one_out_rank1)),
        });
    }
    let table = markdown(&rows);
    let command = crate::run::directory::command_line();
    let document = json!({ "command": command, "config": config, "resamples": RESAMPLES, "rows": rows });
    files::write(&args.output.join("table.md"), &table)?;
    files::write(&args.output.join("table.csv"), csv(&rows))?;
    files::write(&args.output.join("table.json"), serde_json::to_string_pretty(&document)?)?;
    match args.format {
        Format::Table => terminal::show!("{}", table.trim_end())?,
        Format::Json => terminal::show!("{document}")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn percent(interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(|| "–".into(), |[low, high]| format!("{:.2}–{:.2}", 100.0 * low, 100.0 * high))
}

fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| head | parameters | EER % | ± over seeds | 95 % interval | TAR % at 1 % FAR | 95 % interval | AUC | Rank-1 \
         % |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        text += &format!(
            "| {} | {} | {:.2} | {:.2} | {} | {:.2} | {} | {:.4} | {:.2} |\n",
            row.head,
            row.parameters,
            100.0 * row.eer,
            100.0 * row.eer_std,
            percent(row.eer_interval),
            100.0 * row.tar,
            percent(row.tar_interval),
            row.auc,
            100.0 * row.rank1
        );
    }
    text
}

fn csv(rows: &[Row]) -> String {
    let mut table = Writer::for_people(&[
        "head",
        "parameters",
        "runs",
        "eer",
        "eer_std",
        "eer_low",
        "eer_high",
        "tar_1",
        "tar_1_low",
        "tar_1_high",
        "auc",
        "rank1",
    ]);
    let ends = |interval: Option<[f64; 2]>| match interval {
        Some(ends) => ends.map(|end| end.to_string()),
        None => [String::new(), String::new()],
    };
    for row in rows {
        let start = [row.head.to_string(), row.parameters.to_string(), row.runs.to_string()];
        let eer = [row.eer.to_string(), row.eer_std.to_string()].into_iter().chain(ends(row.eer_interval));
        let tar = [row.tar.to_string()].into_iter().chain(ends(row.tar_interval));
        table.row(start.into_iter().chain(eer).chain(tar).chain([row.auc.to_string(), row.rank1.to_string()]));
    }
    table.finish()
}
