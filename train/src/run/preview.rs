//! `train preview`: sheets of what a network would see, whatever it trains on.

use std::io::Cursor;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{ArgMatches, Args};
use image::{ImageFormat, RgbImage};

use crate::data::sheet;
use crate::run::flags::{RunArgs, given};

/// What to draw, besides the flags of a run.
#[derive(Debug, Args)]
pub struct PreviewFlags {
    /// PNG to write.
    #[arg(short, long, value_name = "FILE", default_value = "preview.png")]
    pub output: PathBuf,
    /// Epoch whose first batches are drawn, from 1.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub epoch: usize,
    /// Rows of pictures that belong together.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub rows: usize,
}

/// Pictures that belong together.
pub(crate) struct Row {
    /// Who or what is on them.
    pub what: String,
    /// Their files, or where they come from.
    pub files: Vec<String>,
    /// The pictures.
    pub pictures: Vec<RgbImage>,
}

impl PreviewFlags {
    /// That a sheet of rows of up to `columns` pictures of `[height, width]` can be drawn. Before anything is read: a
    /// batch of such pictures is large, too.
    ///
    /// # Errors
    /// If a number is 0, or the sheet would be too large.
    pub(crate) fn check(&self, columns: usize, picture: [usize; 2]) -> anyhow::Result<()> {
        for (flag, value) in [("epoch", self.epoch), ("rows", self.rows)] {
            ensure!(value > 0, "--{flag} is 0; 1 and more are allowed");
        }
        if let Err(size) = sheet::size([self.rows, columns], picture) {
            bail!("--rows {} of up to {columns} pictures each make a sheet of {size}", self.rows);
        }
        Ok(())
    }

    /// Draws the first rows, and lists them on stdout.
    ///
    /// # Errors
    /// If there is none, or the sheet cannot be written.
    pub(crate) fn draw(&self, mut rows: Vec<Row>, picture: [usize; 2]) -> anyhow::Result<ExitCode> {
        let Self { output, epoch, rows: count } = self;
        rows.truncate(*count);
        if rows.is_empty() {
            bail!("epoch {epoch} has no batch: there are fewer pictures or identities than one batch wants");
        }
        let pictures: Vec<_> = rows.iter_mut().map(|row| std::mem::take(&mut row.pictures)).collect();
        let mut png = Cursor::new(Vec::new());
        let sheet = sheet::sheet(&pictures, picture);
        sheet.write_to(&mut png, ImageFormat::Png).context("cannot compress the sheet")?;
        files::write(output, png.into_inner())?;
        for (number, Row { what, files, .. }) in (1..).zip(&rows) {
            terminal::show!("{number:>4}  {what}  {}", files.join(", "))?;
        }
        terminal::tell!("epoch {epoch}: {} rows in {}", rows.len(), output.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Refuses flags of runs that a preview does not read, and those of `unread` among the flags of `A`.
///
/// # Errors
/// If one was given.
pub(crate) fn refuse_unread<A: Args>(flags: &ArgMatches, unread: &[&str]) -> anyhow::Result<()> {
    /// What a preview reads of the flags of runs.
    const READ: [&str; 2] = ["recipe", "config"];
    let of_runs = given::<RunArgs>(flags).into_iter().filter(|id| !READ.contains(&id.as_str()));
    let others = given::<A>(flags).into_iter().filter(|id| unread.contains(&id.as_str()));
    if let Some(id) = of_runs.chain(others).next() {
        bail!("--{} is for runs, and `train preview` begins none", id.replace('_', "-"));
    }
    Ok(())
}
