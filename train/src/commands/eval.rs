//! `train eval`: a checkpoint's metrics on a dataset.

use std::process::ExitCode;

use anyhow::bail;
use burn::module::Module;
use terminal::EXIT_NO;

use crate::device;
use crate::families::controlnet::task as controlnet;
use crate::families::palmvein;
use crate::families::reid::evaluate::{EvalReport, RANKS, Reading, warn_when_collapsed};
use crate::families::reid::net::{ReidNet, ReidNetConfig};
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task as reid;
use crate::families::senet::task as senet;
use crate::run::checkpoint::Checkpoint;
use crate::run::flags::EvalArgs;
use crate::weights::{Partial, StateDict};

/// `train eval`.
pub fn eval(args: &EvalArgs) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    match checkpoint.record.family.as_str() {
        palmvein::FAMILY | palmvein::STAGE1_FAMILY => {
            return crate::families::palmvein::command::eval(args, &checkpoint);
        }
        controlnet::FAMILY => return crate::families::controlnet::command::eval(args, &checkpoint),
        family if args.report.is_some() => bail!(
            "--report writes pages of the families palmvein and controlnet; `{}` is of the family `{family}`",
            checkpoint.path.display()
        ),
        senet::FAMILY => return crate::families::senet::command::eval(args, &checkpoint),
        _ => {}
    }
    let network: ReidNetConfig = checkpoint.network(reid::FAMILY)?;
    let mut config: ReidConfig = checkpoint.settings()?;
    if let Some(datadir) = &args.datadir {
        config.datadir = datadir.display().to_string();
    }
    if let Some(dataset) = &args.dataset {
        config.data_test = dataset.clone();
    }
    config.train_identities = args.train_identities.or(config.train_identities);
    let mut net = ReidNet::new(&network, config.seed, &device::open(args.device)?)?;
    StateDict::load_file(&checkpoint.path, &mut net, &network.model, Partial::Nothing)?;
    let reading = Reading { batch: args.batchtest, threads: args.n_thread, strict: args.strict };
    let reports = reid::evaluate(&net.valid(), &config, reading, args.rerank).map_err(anyhow::Error::from_boxed)?;
    for report in &reports {
        warn_when_collapsed(&report.spread);
    }
    args.format.print(&reports, || reports.iter().map(table).collect())?;
    let answered = reports.iter().any(|report| report.ranking.valid_queries > 0);
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

fn table(report: &EvalReport) -> String {
    let EvalReport { dataset, ranking, reranked, skipped, .. } = report;
    let line = |name: &str, ranking: &metrics::RankingReport| {
        let ranks: String = RANKS.iter().map(|k| format!("  Rank-{k} {:.4}", ranking.rank(*k))).collect();
        format!("{name:<12} mAP {:.4}{ranks}\n", ranking.map)
    };
    let (cosine, reranked) = (line("cosine", ranking), reranked.as_ref().map(|ranking| line("re-ranked", ranking)));
    format!(
        "{dataset}: {} of {} queries with a match, {} in the gallery, {skipped} unreadable pictures left out\n{cosine}{}",
        ranking.valid_queries,
        ranking.queries,
        ranking.gallery,
        reranked.unwrap_or_default()
    )
}
