//! `deploy generate`: a face in other poses.

use std::path::Path;
use std::process::ExitCode;

use image::{ImageFormat, RgbImage};

use super::args::GenerateArgs;
use super::shared::{open, print};
use crate::DeployError;
use crate::generate::{Generator, animation, strip};
use crate::poses::Poses;

/// Most poses in a table.
const MAX_POSES: usize = 100_000;

pub(crate) fn run(args: &GenerateArgs) -> Result<ExitCode, DeployError> {
    let kind = kind(args)?;
    let model = open(&args.model, 1)?;
    let generator = Generator::new(&model)?;
    if let Some(pose) = &args.pose {
        let drawn = generator.generate(&args.image, std::slice::from_ref(pose))?;
        return write(&drawn[0], &args.out).and_then(|()| told(1, &args.out));
    }
    if let Some(path) = &args.poses {
        let poses: Vec<Vec<f32>> = Poses::read(path, generator.angles())?.rows().map(<[f32]>::to_vec).collect();
        if poses.is_empty() || poses.len() > MAX_POSES {
            let problem = format!("holds {} poses; 1 to {MAX_POSES} are allowed", poses.len());
            return Err(DeployError::Poses { path: path.clone(), problem });
        }
        let drawn = generator.generate(&args.image, &poses)?;
        for (at, picture) in drawn.iter().enumerate() {
            write(picture, &args.out.join(format!("{at:05}.png")))?;
        }
        return told(drawn.len(), &args.out);
    }
    let steps = args.steps.get();
    let yaw = |step: usize| args.turn * (2.0 * step as f32 / (steps - 1).max(1) as f32 - 1.0);
    let pose = |step: usize| {
        let mut pose = vec![0.0; generator.angles()];
        pose[0] = if steps == 1 { 0.0 } else { yaw(step) };
        pose
    };
    let drawn = generator.generate(&args.image, &(0..steps).map(pose).collect::<Vec<_>>())?;
    match kind {
        Kind::Png => write(&strip(&drawn), &args.out)?,
        Kind::Apng => save(&args.out, animation(&drawn).map_err(std::io::Error::other))?,
    }
    told(steps, &args.out)
}

/// What is written.
enum Kind {
    Png,
    Apng,
}

/// The format that the file name asks for: animated if it ends in `.apng`.
fn kind(args: &GenerateArgs) -> Result<Kind, DeployError> {
    let ending = args.out.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        // With --poses the output is a folder.
        _ if args.poses.is_some() => Ok(Kind::Png),
        None | Some("png") => Ok(Kind::Png),
        Some("apng") if args.turntable => Ok(Kind::Apng),
        _ => Err(DeployError::Ending {
            path: args.out.clone(),
            allowed: if args.turntable { ".png (a strip) and .apng (an animation)" } else { ".png" },
        }),
    }
}

fn told(count: usize, out: &Path) -> Result<ExitCode, DeployError> {
    print(&format!("{count} {} in {}\n", if count == 1 { "pose" } else { "poses" }, out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write(picture: &RgbImage, path: &Path) -> Result<(), DeployError> {
    let mut png = std::io::Cursor::new(Vec::new());
    let written = picture.write_to(&mut png, ImageFormat::Png);
    save(path, written.map(|()| png.into_inner()).map_err(std::io::Error::other))
}

fn save(path: &Path, bytes: std::io::Result<Vec<u8>>) -> Result<(), DeployError> {
    let failed = |source| DeployError::Write { path: path.to_owned(), source };
    files::write(path, bytes.map_err(failed)?).map_err(|error| failed(error.source))
}
