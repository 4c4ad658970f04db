//! The command line as typed.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use datasets::Naming;
use datasets::paired::{PairLayout, PairOptions};

use crate::DeployError;
use crate::embed;
use crate::gallery::{self, Making, OWN};
use crate::runtime::{self, Optimisation, Provider, Tuning, Wanted};
use crate::search::{MOST_RERANKED, Scope};
use crate::time;

/// How the model is opened and run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RunArgs {
    /// Execution provider: auto, cpu, cuda[:DEVICE], tensorrt[:DEVICE], openvino[:cpu|gpu|npu], coreml or xnnpack. A
    /// named provider that cannot run is an error, and so is one that leaves nodes to others, except those that only
    /// compute with shapes; auto reports its choice.
    #[arg(long, default_value_t = Provider::Auto, value_name = "NAME")]
    pub(crate) provider: Provider,
    /// Threads for decoding and the network together, of which at most one per core is used; 0 is one per core that
    /// affinity and control groups leave to this program.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = terminal::threads_or_cores)]
    pub(crate) threads: usize,
    /// Contract of a foreign model that carries none, as JSON [default: the model's own].
    #[arg(long, value_name = "FILE.json")]
    pub(crate) contract: Option<PathBuf>,
    /// Open the model without running its golden vectors [default: they are run].
    #[arg(long)]
    pub(crate) skip_self_test: bool,
    #[command(flatten)]
    pub(crate) tuning: TuningArgs,
}

impl RunArgs {
    /// Threads that are used, at least 1.
    pub(crate) fn threads(&self) -> usize {
        terminal::at_most_cores(self.threads)
    }

    /// How a model is opened for `lanes` batches at a time.
    pub(crate) fn options(&self, lanes: usize) -> runtime::Options {
        runtime::Options {
            provider: self.provider,
            threads: self.threads(),
            lanes,
            contract: self.contract.clone(),
            self_test: !self.skip_self_test,
            ..self.tuning.options()
        }
    }
}

/// How ONNX Runtime spends threads and memory.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TuningArgs {
    /// What runs models: onnxruntime; rten, in Rust alone, if the program was built with it; or auto, which takes rten
    /// only where ONNX Runtime is not installed, and says so.
    #[arg(long, default_value_t = Wanted::Auto, value_name = "NAME")]
    pub(crate) runtime: Wanted,
    /// How far ONNX Runtime rewrites the graph before it runs it: off, basic, extended or all. Values may differ in
    /// their last digits.
    #[arg(long, visible_alias = "optimization", default_value_t = Optimisation::All, value_name = "LEVEL")]
    pub(crate) optimisation: Optimisation,
    /// Whether threads that wait for work keep their cores busy, on or off [default: on; off where a control group
    /// limits processor time].
    #[arg(long, value_name = "ON_OFF", value_parser = on_or_off)]
    pub(crate) spinning: Option<bool>,
    /// Whether memory of a run is kept for the next, on or off [default: on; off where there is less than 1 GiB].
    #[arg(long, value_name = "ON_OFF", value_parser = on_or_off)]
    pub(crate) arena: Option<bool>,
    /// Folder for the engines that TensorRT builds, which takes minutes for each model, GPU and release [default:
    /// vitrine/tensorrt in XDG_CACHE_HOME or ~/.cache].
    #[arg(long, value_name = "DIR")]
    pub(crate) engine_cache: Option<PathBuf>,
}

impl TuningArgs {
    /// The part of how a model is opened that is said here.
    pub(crate) fn options(&self) -> runtime::Options {
        let tuning = Tuning { spinning: self.spinning, arena: self.arena, optimisation: self.optimisation };
        runtime::Options {
            runtime: self.runtime,
            tuning,
            engines: self.engine_cache.clone(),
            building: Some(building),
            ..runtime::Options::default()
        }
    }
}

/// Says that TensorRT builds an engine, and how long it has been at it, until the result is dropped.
fn building(folder: &std::path::Path) -> Box<dyn std::any::Any> {
    let text = format!("TensorRT builds an engine, which takes minutes, and keeps it in {}", folder.display());
    terminal::note(&text);
    Box::new(terminal::waiting("building an engine"))
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on and off are allowed".to_owned()),
    }
}

/// The model, and how it is opened and run.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Model file, or bundle folder with a model.onnx.
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// How pictures are read.
#[derive(Debug, clap::Args)]
pub(crate) struct PictureArgs {
    /// Pictures per run of the network, 1 to 65536; on the CPU the threads share them.
    #[arg(long, visible_alias = "batch", default_value_t = default_batch_size(), value_name = "N",
        value_parser = batch_size)]
    pub(crate) batch_size: NonZeroUsize,
    /// Stop at the first picture that cannot be used, or whose format is not read [default: skip and report it].
    #[arg(long)]
    pub(crate) strict: bool,
}

pub(crate) fn batch_size(text: &str) -> Result<NonZeroUsize, String> {
    terminal::whole(text, 1, 1 << 16).map(|size| NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN))
}

fn hash(text: &str) -> Result<String, String> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { Ok(text.to_lowercase()) } else { Err("a hash has 64 hexadecimal digits".to_owned()) }
}

fn count(text: &str) -> Result<NonZeroUsize, String> {
    terminal::whole(text, 1, 1_000_000).map(|count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN))
}

fn default_batch_size() -> NonZeroUsize {
    NonZeroUsize::new(embed::Options::BATCH_SIZE).unwrap_or(NonZeroUsize::MIN)
}

/// What names the person on a picture.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NamingArgs {
    /// What names the person on a picture: folder or file [default: the first folder below the listed one, else the
    /// listed folders if they are several, else a file name such as 0002_c1_0451.jpg; probes are named as their gallery
    /// is].
    #[arg(long, value_name = "WHICH", conflicts_with = "pairs", conflicts_with_all = PAIRS)]
    pub(crate) identity_from: Option<Naming>,
}

/// Flags that say how --pairs are read. They also list the flags they conflict with: clap does not ask for a required
/// flag that conflicts with another flag given.
const PAIRS: [&str; 4] = ["layout", "palm_band", "vein_band", "pattern"];

/// The same for flags that select from --pairs.
const SPLIT: [&str; 2] = ["split", "split_seed"];

/// How folders of pairs are read.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PairArgs {
    /// Read the folders as pairs of palm and vein pictures, one pair per row [default: one picture per row].
    #[arg(long)]
    pub(crate) pairs: bool,
    /// Layout of --pairs: auto, plain, casia, polyu, tongji or manifest.
    #[arg(long, default_value = "auto", value_name = "NAME", requires = "pairs")]
    pub(crate) layout: PairLayout,
    /// Folder or spectrum of the palm pictures of --pairs [default: the layout's usual one].
    #[arg(long, value_name = "NAME", requires = "pairs")]
    pub(crate) palm_band: Option<String>,
    /// Folder or spectrum of the vein pictures of --pairs [default: the layout's usual one].
    #[arg(long, value_name = "NAME", requires = "pairs")]
    pub(crate) vein_band: Option<String>,
    /// Regular expression for names of --pairs, with groups band, index, subject, hand, session [default: the
    /// layout's].
    #[arg(long, value_name = "REGEX", requires = "pairs")]
    pub(crate) pattern: Option<String>,
}

impl PairArgs {
    pub(crate) fn options(&self) -> PairOptions {
        let (palm, vein, pattern) = (self.palm_band.clone(), self.vein_band.clone(), self.pattern.clone());
        PairOptions { layout: self.layout, palm, vein, pattern, ..PairOptions::default() }
    }
}

/// The pictures of one person, one for each input of the model; a model trained with --modality-dropout accepts just
/// one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PairFiles {
    /// Picture of the palm's lines, or the only picture of a model of one input [default: none].
    #[arg(long, visible_alias = "picture", value_name = "FILE")]
    pub(crate) palm: Option<PathBuf>,
    /// Picture of the veins [default: none].
    #[arg(long, value_name = "FILE")]
    pub(crate) vein: Option<PathBuf>,
}

/// A model, one person's pictures and name, and a gallery.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) files: PairFiles,
    /// Who it is, or claims to be.
    #[arg(long, value_name = "NAME", value_parser = identity)]
    pub(crate) identity: String,
    /// Gallery: a folder that `deploy enroll` or `deploy embed` wrote, or the address of one that a server keeps,
    /// milvus://HOST:PORT/NAME.
    #[arg(long, visible_alias = "engine", value_name = "EMBEDDINGS")]
    pub(crate) gallery: PathBuf,
}

/// Add people to a gallery, which is created if needed: all of them, or none if anything fails. Duplicates, pictures
/// that look like somebody else's, and pictures that are tiny, dark or blurred are reported.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| match arg.get_id().as_str() {
    id if id == "pairs" || PAIRS.contains(&id) => arg.conflicts_with_all(["palm", "vein"]),
    _ => arg,
}))]
pub(crate) struct EnrollArgs {
    /// Folders, including subfolders, and files: pictures; tables (.csv with columns path, vein, subject, camera,
    /// taken, tags); lists of paths (.txt, or - for standard input); rows of embeddings (.npy, with a table of as many
    /// rows beside it as .csv). Or the picture of --picture.
    #[arg(required_unless_present_any = ["palm", "vein"], conflicts_with_all = ["palm", "vein"],
        value_name = "DIR_OR_FILE")]
    pub(crate) pictures: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) files: PairFiles,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Who is on all of the pictures [default: what folders, file names or tables say].
    #[arg(long, value_name = "NAME", value_parser = identity, required_unless_present = "pictures",
        conflicts_with = "identity_from")]
    pub(crate) identity: Option<String>,
    /// Gallery: a folder, or the address of one that a server keeps,
    /// milvus://HOST:PORT/NAME.
    #[arg(long, visible_alias = "engine", value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// Camera of all of the pictures, from 0 [default: what file names or tables say].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..i64::from(::gallery::MAX_CAMERA)))]
    pub(crate) camera: Option<u32>,
    /// When all of the pictures were taken: 2026-11-28, 2026-11-28T14:03 or 2026-11-28T14:03:05, in UTC [default: what
    /// tables say].
    #[arg(long, value_name = "TIME", value_parser = time::read)]
    pub(crate) taken: Option<i64>,
    /// Tag for all of the pictures, a word to filter by; may be repeated [default: those of tables].
    #[arg(long, value_name = "WORD", value_parser = tag)]
    pub(crate) tag: Vec<String>,
    /// Cosine similarity from which on somebody else's template is reported [default: the model's calibrated threshold
    /// for the lowest rate, or 0.9].
    #[arg(long, value_name = "COSINE", value_parser = cosine, allow_hyphen_values = true)]
    pub(crate) similar: Option<f32>,
    /// Leave out duplicates, and pictures that are tiny, dark or blurred [default: enrol and report them].
    #[arg(long)]
    pub(crate) selective: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
    #[command(flatten)]
    pub(crate) naming: NamingArgs,
    #[command(flatten)]
    pub(crate) pairs: PairArgs,
    #[command(flatten)]
    pub(crate) reading: PictureArgs,
    #[command(flatten)]
    pub(crate) key: NewKeyArgs,
}

/// Remove a person, or single templates, from a gallery: their values are overwritten.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("whom").required(true).args(["identity", "template"])))]
pub(crate) struct RemoveArgs {
    /// Who is removed [default: nobody, but the --template].
    #[arg(long, value_name = "NAME", value_parser = identity)]
    pub(crate) identity: Option<String>,
    /// Template that is removed, by the number that `search --format json` prints; may be repeated [default: those of
    /// --identity].
    #[arg(long, value_name = "N")]
    pub(crate) template: Vec<u64>,
    /// Gallery: a folder that `deploy enroll` or `deploy embed` wrote, or the address of one that a server keeps,
    /// milvus://HOST:PORT/NAME.
    #[arg(long, visible_alias = "engine", value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// Look through every byte of every file of the gallery for what was removed; exits with 1 if any of it is left
    /// [default: it is overwritten and not looked for].
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Look after a gallery.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryArgs {
    #[command(subcommand)]
    pub(crate) command: GalleryCommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum GalleryCommand {
    /// Say what is in a gallery: templates, people, model, bytes, and which rows `gallery index` has seen.
    Info(GalleryShowArgs),
    /// Read everything in a gallery and compare its checksums. Exits with 1 if anything is not as it was written.
    Check(GalleryShowArgs),
    Compact(GalleryCompactArgs),
    Index(GalleryIndexArgs),
    Sync(GallerySyncArgs),
    Export(GalleryExportArgs),
    Import(GalleryImportArgs),
    Migrate(GalleryMigrateArgs),
    Log(GalleryLogArgs),
    Encrypt(GalleryEncryptArgs),
    RotateKey(GalleryRotateKeyArgs),
    Renew(GalleryRenewArgs),
}

/// A gallery that is looked at, and how that is told.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryShowArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Give back the disk space of removed rows. Programs that search meanwhile are not disturbed. The copy of `gallery
/// index` is kept; the graph of the rows that move is dropped, which the command says.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryCompactArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Make a gallery's searches faster, by files that are derived from its rows, or remove these files. Rows that are
/// enrolled later are searched as they are until this is called again. Other programs can search meanwhile, but not
/// change the gallery.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryIndexArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// What the gallery has afterwards.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) kind: IndexKindArg,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// What is derived from the rows of a gallery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IndexKindArg {
    /// A copy of the rows in a quarter of their bytes, which searches of up to 128 probes read first. It never changes
    /// an answer.
    Reduced,
    /// The copy, and a graph of near rows for `search --index ann`, which may miss a few of the nearest. Worth it from
    /// about a million templates on.
    Ann,
    /// Nothing: both are removed.
    None,
}

/// Follow the folders that a gallery was embedded from: new pictures are enrolled, changed ones are embedded again, and
/// the templates of those that are gone are removed, all in one change. Templates of other pictures stay.
#[derive(Debug, clap::Args)]
pub(crate) struct GallerySyncArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Folder that is followed; may be repeated [default: those that `deploy embed` was called with].
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Vec<PathBuf>,
    /// Say what would be done, and do nothing [default: it is done].
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
    #[command(flatten)]
    pub(crate) reading: PictureArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Write a gallery's rows for other programs.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryExportArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// What to write: with npy a new folder of embeddings.npy, rows.jsonl and embeddings.json; with parquet a file;
    /// with faiss a file, and what is said about its rows beside it as OUT.jsonl.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Format.
    #[arg(long, value_enum, default_value_t = ExportFormat::Npy)]
    pub(crate) format: ExportFormat,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Format of exported rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// numpy's: float32, [rows, values].
    Npy,
    /// A flat index of FAISS (IndexFlatIP).
    Faiss,
    /// A Parquet file: columns id, subject, camera, taken, tags, picture, embedding and a few more.
    Parquet,
}

/// Make a gallery from one of the older layout, from another gallery, or from a file of rows.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryImportArgs {
    /// A gallery; or a file of rows of unit length, told by how it begins: a Parquet file (with a column `embedding`,
    /// lists of float32), a .npy, or a flat index of FAISS (IndexFlatIP).
    #[arg(value_name = "FROM")]
    pub(crate) from: PathBuf,
    /// Folder of the new gallery [default: FROM itself, which must be a gallery of the older layout].
    #[arg(short, long, value_name = "GALLERY")]
    pub(crate) out: Option<PathBuf>,
    /// What is said about the rows of a .npy or an index: a line of JSON for each, as in rows.jsonl [default: FROM with
    /// the ending .jsonl, if there is one].
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) rows: Option<PathBuf>,
    /// Model whose embeddings a file holds [default: none, a gallery names its model, and so does a Parquet file that
    /// `gallery export` wrote].
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Contract of a foreign model that carries none, as JSON [default: the model's own].
    #[arg(long, value_name = "FILE.json", requires = "model")]
    pub(crate) contract: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
    #[command(flatten)]
    pub(crate) key: NewKeyArgs,
}

/// Embed the pictures of a gallery again, by another model; people, cameras, times, tags and numbers stay. Until the
/// end searches find the rows of the old model, then, from one moment to the next, those of the new one. A migration
/// that is interrupted goes on where it was when the command is repeated; while it runs nobody can be enrolled or
/// removed, but between two runs, and what was enrolled then is embedded, too. Exits with 2, and the gallery keeps its
/// model, if there are templates that cannot be embedded again: those without a picture, and those whose picture is
/// missing, has changed or cannot be used. They are listed.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryMigrateArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Folder that the pictures were moved to, in place of the innermost folder that had all of them; below it they
    /// have the names they had. Their times may differ, their sizes may not. Templates have the new paths when the
    /// migration is finished [default: they are where they were].
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// Embed pictures that changed since they were enrolled as they are now [default: they are listed].
    #[arg(long)]
    pub(crate) take_changed: bool,
    /// Remove the templates that cannot be embedded again, unless that is all of them [default: keep the old model].
    #[arg(long)]
    pub(crate) drop_missing: bool,
    /// Forget what an interrupted migration embedded, and begin anew; with the gallery's own model, only forget it
    /// [default: go on with it].
    #[arg(long)]
    pub(crate) restart: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
    #[command(flatten)]
    pub(crate) reading: PictureArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// List what was done to a gallery: when, who, what, to which templates and people, by which version. Exits with 1 if a
/// record is not as it was written. Who was removed has a number and no name in it.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryLogArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// Only the last changes [default: all].
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    pub(crate) last: Option<NonZeroUsize>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Look at what was done to a gallery, and whether that record is whole.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditCommand {
    Verify(AuditVerifyArgs),
    List(GalleryLogArgs),
}

/// Compare every record of a gallery's log with its hash, which is of the record before, too. Prints the hash of the
/// last record: whoever keeps it elsewhere can tell later that nothing up to it was changed, moved or cut off. Exits
/// with 1 and names the record if something was.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditVerifyArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// Hash that this command printed before; the log must still have that record [default: none, a log whose end was
    /// cut off with care looks whole].
    #[arg(long, value_name = "HASH", value_parser = hash)]
    pub(crate) head: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Encrypt a gallery: templates, names, paths and small pictures, with a key for each person. The key file is made if
/// there is none; keep it, and its key store, out of the gallery's folder and its backups. Copies and graphs of
/// `gallery index` are removed. The disk may keep what was in the old files until it writes there again.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryEncryptArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// Key file that it gets.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// Store the templates turned by a key as well; see `deploy gallery renew` [default: as they are].
    #[arg(long)]
    pub(crate) renewable: bool,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
}

/// Give an encrypted gallery another key file. The keys of people stay and are wrapped anew; the old key store forgets
/// them. Repeat it if it was interrupted.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryRotateKeyArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// Key file that it has.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// Key file that it gets, which is made if there is none.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: PathBuf,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
}

/// Turn the templates of an encrypted gallery by a new key and forget the old one: templates that somebody stole match
/// nothing any more. No picture is needed. Copies of the gallery from before cannot be opened afterwards.
#[derive(Debug, clap::Args)]
pub(crate) struct GalleryRenewArgs {
    /// Gallery.
    #[arg(value_name = "GALLERY")]
    pub(crate) gallery: PathBuf,
    /// Key file of the gallery.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
}

/// The key of an encrypted gallery.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct KeyArgs {
    /// Key file of the gallery, which is encrypted; its key store, FILE.subjects, lies beside it [default: it is not
    /// encrypted].
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// The key of a gallery that is made if it is not there.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NewKeyArgs {
    /// Key file of the gallery, which is encrypted; its key store, FILE.subjects, lies beside it. It is made if neither
    /// it nor the gallery is there [default: it is not encrypted].
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Store the templates of a new gallery turned by a key, so that `deploy gallery renew` can make them worthless to
    /// whoever stole them [default: as they are].
    #[arg(long, requires = "key_file")]
    pub(crate) renewable: bool,
}

impl NewKeyArgs {
    /// Opens the key of the gallery in `folder`, or makes one for a gallery that is not there yet.
    pub(crate) fn unlock(&self, folder: &Path) -> Result<(), DeployError> {
        self.key_file.iter().try_for_each(|file| gallery::unlock_or_create(file, folder))
    }

    pub(crate) fn making(&self, wait: bool) -> Making {
        Making { wait, renewable: self.renewable }
    }
}

/// How a gallery is changed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WritingArgs {
    /// Wait while another program changes the gallery [default: refuse].
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Is this the person it claims to be (1:1)? Exits with 0 for yes and 1 for no.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) one: OneArgs,
    /// Cosine similarity to the most similar template from which the answer is yes (-1 to 1) [default: the model's
    /// calibrated one for --far].
    #[arg(long, visible_alias = "min-similarity", value_name = "COSINE")]
    #[arg(value_parser = cosine, allow_hyphen_values = true)]
    pub(crate) threshold: Option<f32>,
    /// Highest rate at which strangers may be accepted, above 0 and below 1. For a person with n templates, the
    /// calibrated threshold for a rate of at most RATE / n is used.
    #[arg(long, value_name = "RATE", default_value_t = 0.001, value_parser = rate, conflicts_with = "threshold")]
    pub(crate) far: f64,
    /// Folder for drawings of the model's attention to palm and veins; the model must have been exported with
    /// --attention [default: none].
    #[arg(long, value_name = "DIR")]
    pub(crate) explain: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Re-ranking.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RerankArgs {
    /// Order by k-reciprocal re-ranking [default: by cosine].
    #[arg(long, visible_alias = "re-rank")]
    pub(crate) rerank: bool,
    /// What --rerank orders: the N nearest entries of each probe, 1 to 4096, which are compared with each other; or all
    /// entries together with all probes, as published, at most 131072 [default: 200 in search, all in evaluate].
    #[arg(long, value_name = "N", requires = "rerank", value_parser = scope)]
    pub(crate) rerank_top: Option<Scope>,
}

impl RerankArgs {
    /// What is re-ranked, if anything; `usual` without --rerank-top.
    pub(crate) fn scope(&self, usual: Scope) -> Option<Scope> {
        self.rerank.then(|| self.rerank_top.unwrap_or(usual))
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    if text == "all" {
        return Ok(Scope::Everyone);
    }
    let n = text.parse().ok().filter(|n: &NonZeroUsize| n.get() <= MOST_RERANKED);
    n.map(Scope::Nearest).ok_or_else(|| format!("a number from 1 to {MOST_RERANKED}, or all, is allowed"))
}

/// The result and its HTML page.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Write a self-contained HTML page with the pictures [default: none].
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    /// Probes shown on the page of --report: the first ones, of evaluate the ones that went worst.
    #[arg(long, default_value_t = 100, value_name = "N", requires = "report",
        value_parser = |text: &str| terminal::whole(text, 0, 1_000_000))]
    pub(crate) report_probes: usize,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

/// Output format of commands that print a single record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FactsFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Make a bundle of somebody else's ONNX file: with a contract, and golden vectors for the self-test. What the graph
/// says is read from it, what it cannot say is asked for, all at once. docs/contract.md says where the presets are
/// from.
#[derive(Debug, clap::Args)]
pub(crate) struct AdoptArgs {
    /// Model file, or folder with a model.onnx.
    #[arg(value_name = "MODEL.onnx")]
    pub(crate) model: PathBuf,
    /// Project whose models see pictures alike: adaface, clip-reid, fastreid, insightface, strong-baseline, torchreid
    /// or transreid [default: none].
    #[arg(long, value_name = "NAME", value_parser = preset)]
    pub(crate) preset: Option<crate::adopt::Preset>,
    /// Height and width of the picture, 256x128 [default: the graph's, else the preset's].
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = size)]
    pub(crate) size: Option<[usize; 2]>,
    /// Mean of each channel in the network's order, or one for all, in units of --range [default: the preset's].
    #[arg(long, value_name = "NUMBERS", value_parser = numbers, allow_hyphen_values = true)]
    pub(crate) mean: Option<Numbers>,
    /// Standard deviation of each channel, or one for all, in units of --range [default: the preset's].
    #[arg(long, value_name = "NUMBERS", value_parser = numbers, allow_hyphen_values = true)]
    pub(crate) std: Option<Numbers>,
    /// Values of black and of white before mean and deviation: 0,1 or 0,255 or -1,1 [default: the preset's].
    #[arg(long, value_name = "BLACK,WHITE", value_parser = range, allow_hyphen_values = true)]
    pub(crate) range: Option<[f32; 2]>,
    /// Order of the channels: rgb, bgr or grey [default: the preset's; grey where the graph has one channel].
    #[arg(long, value_name = "ORDER", value_parser = word::<contract::Colour>)]
    pub(crate) colour: Option<contract::Colour>,
    /// Order of the axes: nchw (channels before pixels) or nhwc [default: the graph's, else nchw with a preset].
    #[arg(long, value_name = "ORDER", value_parser = layout)]
    pub(crate) layout: Option<String>,
    /// How pictures are resized: bilinear, bicubic, pillow-lanczos or pillow-box as Pillow does, or opencv's linear
    /// [default: the preset's].
    #[arg(long, value_name = "FILTER", value_parser = word::<contract::Filter>)]
    pub(crate) filter: Option<contract::Filter>,
    /// Output that is the embedding [default: the only vector].
    #[arg(long, value_name = "NAME")]
    pub(crate) output: Option<String>,
    /// Add the features of the mirrored picture [default: the picture alone].
    #[arg(long)]
    pub(crate) flip: bool,
    /// Name of the network [default: the file's].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Licence of data and weights, for whoever gets the bundle [default: not known].
    #[arg(long, value_name = "TEXT")]
    pub(crate) licence: Option<String>,
    /// Folder or file: some of its pictures are shown as the network will see them, on a contact sheet [default: none].
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// Contact sheet of --pictures [default: OUT.png, beside the bundle].
    #[arg(long, value_name = "FILE.png", requires = "pictures")]
    pub(crate) sheet: Option<PathBuf>,
    /// Folder of the bundle, new or empty.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
}

/// Numbers between commas.
pub(crate) type Numbers = Vec<f32>;

fn numbers(text: &str) -> Result<Numbers, String> {
    let one = |word: &str| word.trim().parse::<f32>().ok().filter(|number| number.is_finite());
    let all: Option<Vec<f32>> = text.split(',').map(one).collect();
    all.ok_or_else(|| "numbers between commas are allowed, one or one per channel".to_owned())
}

fn range(text: &str) -> Result<[f32; 2], String> {
    let ends = numbers(text).ok().and_then(|ends| <[f32; 2]>::try_from(ends).ok());
    let allowed = "black and white, the first the smaller, are allowed: 0,1 or 0,255 or -1,1";
    ends.filter(|[black, white]| black < white).ok_or_else(|| allowed.to_owned())
}

fn size(text: &str) -> Result<[usize; 2], String> {
    let sides = text.split_once(['x', 'X', '×']);
    let side = |text: &str| text.trim().parse().ok().filter(|side| (1..=8192).contains(side));
    let size = sides.and_then(|(height, width)| Some([side(height)?, side(width)?]));
    size.ok_or_else(|| "height and width, each from 1 to 8192, are allowed: 256x128".to_owned())
}

fn layout(text: &str) -> Result<String, String> {
    let known = [contract::CHANNELS_FIRST, contract::CHANNELS_LAST];
    let found = known.into_iter().find(|known| known.eq_ignore_ascii_case(text));
    found.map(str::to_owned).ok_or_else(|| "nchw or nhwc is allowed".to_owned())
}

fn preset(text: &str) -> Result<crate::adopt::Preset, String> {
    let found = crate::adopt::Preset::named(text).copied();
    found.ok_or_else(|| format!("{} are known", crate::adopt::Preset::names()))
}

/// A choice of the contract by the contract's own word.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    // The message names what is allowed.
    serde_json::from_value(text.to_lowercase().into()).map_err(|error| error.to_string())
}

/// Show a model's contract, graph and training, and run its self-test.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Model file, or bundle folder with a model.onnx.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
}

/// Write the embeddings of pictures: a gallery to search. `deploy gallery export` makes .npy files of it.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| match arg.get_id().as_str() {
    id if id == "pairs" || PAIRS.contains(&id) => arg.conflicts_with_all(["palm", "vein"]),
    _ => arg,
}))]
pub(crate) struct EmbedArgs {
    /// Folders, including subfolders, and files: pictures; tables (.csv with columns path, vein, subject, camera,
    /// taken, tags); lists of paths (.txt, or - for standard input); patterns such as 'cams/*/2026*.jpg'; and, behind
    /// all others, videos (.mp4, .mkv, …), cameras (/dev/video0) and streams (rtsp://…), if `ffmpeg` is installed. Or
    /// one pair by --palm and --vein.
    #[arg(required_unless_present_any = ["palm", "vein"], conflicts_with_all = ["palm", "vein"])]
    #[arg(value_name = "DIR_OR_FILE")]
    pub(crate) pictures: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) one: PairFiles,
    /// Of videos, embed each Nth frame, the first one first [default: all]. A frame's picture is named
    /// VIDEO#FRAME@SECONDS.
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) every: Option<NonZeroUsize>,
    /// Most frames of each video; needed for cameras and streams, which may not end [default: all].
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) frames: Option<NonZeroUsize>,
    /// Write each picture that cannot be used, and why, as a line of JSON [default: the first few are named on stderr].
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) failures: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Folder to write to; created if needed.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Replace the embeddings in the folder, including those of enrolled people [default: refuse].
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) writing: WritingArgs,
    #[command(flatten)]
    pub(crate) naming: NamingArgs,
    #[command(flatten)]
    pub(crate) pairs: PairArgs,
    #[command(flatten)]
    pub(crate) reading: PictureArgs,
    #[command(flatten)]
    pub(crate) key: NewKeyArgs,
}

/// Which entries are searched.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FilterArgs {
    /// Search only this person; may be repeated [default: everybody].
    #[arg(long, value_name = "NAME", value_parser = identity)]
    pub(crate) subject: Vec<String>,
    /// Search only this camera, from 0, as results name it (0 is c1 of a file name); may be repeated [default: all].
    #[arg(long, value_name = "N")]
    pub(crate) camera: Vec<u32>,
    /// Search only what was taken at this time or later: 2026-11-28, 2026-11-28T14:03 or 2026-11-28T14:03:05, in UTC
    /// [default: any time, and none].
    #[arg(long, value_name = "TIME", value_parser = time::read)]
    pub(crate) since: Option<i64>,
    /// Search only what was taken before this time [default: any time, and none].
    #[arg(long, value_name = "TIME", value_parser = time::read)]
    pub(crate) until: Option<i64>,
    /// Search only what has this tag; may be repeated for entries that have all [default: any].
    #[arg(long, value_name = "WORD", value_parser = tag)]
    pub(crate) tag: Vec<String>,
}

impl FilterArgs {
    pub(crate) fn filter(&self) -> ::gallery::Filter {
        ::gallery::Filter {
            subjects: Some(self.subject.clone()).filter(|names| !names.is_empty()),
            cameras: Some(self.camera.clone()).filter(|cameras| !cameras.is_empty()),
            from: self.since,
            until: self.until,
            tags: self.tag.clone(),
        }
    }
}

/// A word to filter by. Some are ours.
pub(crate) fn tag(text: &str) -> Result<String, String> {
    let plain = !text.trim().is_empty() && !text.starts_with(OWN) && !text.chars().any(char::is_control);
    plain.then(|| text.to_owned()).ok_or_else(|| format!("a word is allowed that does not begin with {OWN}"))
}

/// What a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ByArg {
    /// A person.
    Subject,
    /// A template: an entry of the gallery.
    Template,
}

/// How similarities are fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FusionArg {
    /// The largest.
    Max,
    /// The mean.
    Mean,
}

impl From<FusionArg> for metrics::open_set::Fusion {
    fn from(arg: FusionArg) -> Self {
        match arg {
            FusionArg::Max => Self::Max,
            FusionArg::Mean => Self::Mean,
        }
    }
}

/// How a gallery is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IndexArg {
    /// Every row.
    Exact,
    /// Along a graph.
    Ann,
}

/// Find the gallery entries most similar to each probe. Exits with 1 when no probe has a match.
#[derive(Debug, clap::Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Gallery: a folder of pictures, or one that `deploy embed` wrote, or the address of one that a server keeps,
    /// milvus://HOST:PORT/NAME.
    #[arg(long, visible_alias = "engine", value_name = "DIR_OR_EMBEDDINGS")]
    pub(crate) gallery: PathBuf,
    /// Probes: folders, including subfolders, or files; a .npy of embeddings, one a row; - for a list of paths, one a
    /// line, on standard input [default: the one pair of --palm and --vein].
    #[arg(long, required_unless_present_any = ["palm", "vein"], conflicts_with_all = ["palm", "vein"], num_args = 1..,
        value_name = "DIR_OR_FILE")]
    pub(crate) query: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) one: PairFiles,
    /// Matches per probe, best first.
    #[arg(short = 'k', long, default_value_t = NonZeroUsize::MIN.saturating_add(9), value_name = "N",
        value_parser = count)]
    pub(crate) top_k: NonZeroUsize,
    /// Leave out matches below this cosine similarity (-1 to 1) [default: none are left out].
    #[arg(long, visible_alias = "threshold", value_name = "COSINE", value_parser = cosine, allow_hyphen_values = true)]
    pub(crate) min_similarity: Option<f32>,
    /// Leave out matches below the threshold at which at most this share of strangers finds anybody in a gallery of
    /// this size, as `calibrate --fpir` measured it; above 0 and below 1 [default: none are left out].
    #[arg(long, value_name = "RATE", value_parser = rate,
        conflicts_with_all = ["min_similarity", "expand", "rerank", "frontalize"])]
    pub(crate) fpir: Option<f64>,
    /// How an embedded gallery is searched: exact compares each probe with every row. ann is approximate: it walks a
    /// graph, which `gallery index --kind ann` made, to rows that are near each other. A few of the nearest may be
    /// missing from the answer; what is in it has its exact similarity, is enrolled now and passes the filters. New
    /// rows, and filters that few rows pass, are searched exactly. CMC and mAP are then those of this search;
    /// `evaluate` and `calibrate` always search exactly.
    #[arg(long, value_enum, default_value_t = IndexArg::Exact, value_name = "HOW")]
    pub(crate) index: IndexArg,
    /// Rows that --index ann keeps in view while it looks for the nearest, 1 to 65536: more find more and take longer
    /// [default: 128].
    #[arg(long, value_name = "N", requires = "index", value_parser = |text: &str| terminal::whole(text, 1, 1 << 16))]
    pub(crate) effort: Option<usize>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// What a match is: a template, or a person, whose similarity is that of all templates fused.
    #[arg(long, value_enum, default_value_t = ByArg::Template, conflicts_with = "rerank", value_name = "WHAT")]
    pub(crate) by: ByArg,
    /// How the similarities of a person's templates become one: the largest, as in `verify`, or their mean.
    #[arg(long, value_enum, default_value_t = FusionArg::Max, value_name = "RULE")]
    pub(crate) fusion: FusionArg,
    /// Search with the mean of each probe and its N nearest entries (average query expansion), 0 to 1000; 0 is off.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = |text: &str| terminal::whole(text, 0, 1000))]
    pub(crate) expand: usize,
    #[command(flatten)]
    pub(crate) rerank: RerankArgs,
    /// Frontalise the probes with this model, an exported SENet, so that profile views find frontal ones [default: no
    /// model].
    #[arg(long, visible_alias = "frontalizer", value_name = "MODEL", requires = "poses")]
    pub(crate) frontalize: Option<PathBuf>,
    /// Poses of the probes in degrees: .npy, .csv with a header such as path,yaw,pitch,roll, .jsonl, or a face set's
    /// .json [default: none].
    #[arg(long, value_name = "FILE", requires = "frontalize")]
    pub(crate) poses: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
    #[command(flatten)]
    pub(crate) naming: NamingArgs,
    #[command(flatten)]
    pub(crate) pairs: PairArgs,
    #[command(flatten)]
    pub(crate) reading: PictureArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

/// Convert face embeddings of any view to embeddings of the frontal view.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| match arg.get_id().as_str() {
    "strict" | "batch_size" => arg.requires("model"),
    _ => arg,
}))]
pub(crate) struct FrontalizeArgs {
    /// Embeddings: a .npy of rows of numbers, or a folder that `deploy embed` wrote. With --model pictures: folders
    /// or files.
    #[arg(required = true, value_name = "NPY_OR_PICTURES")]
    pub(crate) input: Vec<PathBuf>,
    /// Frontaliser: an exported SENet, a file or a bundle folder.
    #[arg(long, visible_alias = "frontalizer", value_name = "MODEL")]
    pub(crate) frontalize: PathBuf,
    /// Poses in degrees: .npy, .csv with a header such as path,yaw,pitch,roll, .jsonl, or a face set's .json.
    #[arg(long, value_name = "FILE")]
    pub(crate) poses: PathBuf,
    /// Embedder of the pictures, such as an ArcFace network with a --contract [default: none, the input is embeddings].
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// File to write: float32 rows of unit length; with --model also a list of the pictures that have a row, beside it
    /// as OUT.csv.
    #[arg(short, long, value_name = "OUT.npy")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) reading: PictureArgs,
    /// Refused with its reason: what is written is not encrypted.
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// CMC, mAP and mINP on a dataset by the Market-1501 protocol, by exact search, with 95 % intervals that come from
/// drawing the people anew; with --pairs, verification: EER, ROC, TAR at FAR, Rank-1.
/// Exits with 1 when there is nothing to score.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| match arg.get_id().as_str() {
    "report_probes" | "rerank" | "rerank_top" => arg.conflicts_with("pairs"),
    id if PAIRS.contains(&id) || SPLIT.contains(&id) => {
        let others = ["dataset", "train_identities", "cuhk03_labeled", "rerank", "rerank_top", "expand", "single_shot"];
        arg.conflicts_with_all(others)
    }
    _ => arg,
}))]
pub(crate) struct EvaluateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Dataset: market1501, dukemtmc, cuhk03, msmt17 or folders; several joined by + are evaluated one by one [default:
    /// detected from the folders].
    #[arg(
        long,
        visible_alias = "data-test",
        default_value = "",
        hide_default_value = true,
        value_name = "NAME",
        conflicts_with = "pairs"
    )]
    pub(crate) dataset: String,
    /// Folder of the dataset.
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub(crate) datadir: PathBuf,
    /// Dataset `folders`: number of identities reserved for training; the others are tested [default: half].
    #[arg(long, value_name = "N", conflicts_with = "pairs",
        value_parser = |text: &str| terminal::whole(text, 1, 1_000_000_000))]
    pub(crate) train_identities: Option<usize>,
    /// Dataset `cuhk03`: the labelled boxes [default: the detected ones].
    #[arg(long, conflicts_with = "pairs")]
    pub(crate) cuhk03_labeled: bool,
    /// Rank for the mean of each query and its N nearest entries (average query expansion), 0 to 1000; 0 is off.
    #[arg(long, default_value_t = 0, value_name = "N", conflicts_with = "pairs",
        value_parser = |text: &str| terminal::whole(text, 0, 1000))]
    pub(crate) expand: usize,
    /// Also report CMC by cosine with one picture of each person in the gallery, drawn ten times (CUHK03's first
    /// protocol) [default: not reported].
    #[arg(long, conflicts_with_all = ["pairs", "expand", "rerank"])]
    pub(crate) single_shot: bool,
    #[command(flatten)]
    pub(crate) rerank: RerankArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
    #[command(flatten)]
    pub(crate) pairs: PairArgs,
    #[command(flatten)]
    pub(crate) split: SplitArgs,
    #[command(flatten)]
    pub(crate) reading: PictureArgs,
}

/// Which pairs of a set are used.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SplitArgs {
    /// Which of --pairs to use: the test set of a split by people, session or pairs, or all of them.
    #[arg(long, default_value = "people", value_name = "RULE", value_parser = ["people", "session", "pairs", "all"],
        requires = "pairs")]
    pub(crate) split: String,
    /// Seed of the split by people or pairs, as in training [default: 42].
    #[arg(long, value_name = "N", requires = "pairs", value_parser = terminal::seed)]
    pub(crate) split_seed: Option<u64>,
}

/// Measure the similarity thresholds for given false accept rates, by exact search, and write them into the model's
/// contract, where `verify` finds them. Folders or file names say who is on the pictures.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| match arg.get_id().as_str() {
    id if SPLIT.contains(&id) => arg.conflicts_with("identity_from"),
    _ => arg,
}))]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Folder of pictures, or of pairs with --pairs, of people the model was not trained on.
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub(crate) datadir: PathBuf,
    /// False accept rates, above 0 and below 1.
    #[arg(long, value_delimiter = ',', default_value = "0.1,0.01,0.001,0.0001", value_name = "RATES",
        value_parser = rate)]
    pub(crate) far: Vec<f64>,
    /// False positive identification rates, above 0 and below 1, to measure thresholds of `search --fpir` for: the
    /// share of strangers that find anybody, in galleries of 1 to all people but one [default: none are measured, and
    /// those the model has stay].
    #[arg(long, value_delimiter = ',', value_name = "RATES", value_parser = rate)]
    pub(crate) fpir: Vec<f64>,
    /// Templates per person for --fpir: the first pictures of each, 1 to 1000; the others are probes.
    #[arg(long, requires = "fpir", default_value_t = 1, value_name = "N",
        value_parser = |text: &str| terminal::whole(text, 1, 1000))]
    pub(crate) templates: usize,
    /// How the similarities to a person's templates become one, for --fpir: the largest or their mean.
    #[arg(long, requires = "fpir", value_enum, default_value_t = FusionArg::Max, value_name = "RULE")]
    pub(crate) fusion: FusionArg,
    #[command(flatten)]
    pub(crate) naming: NamingArgs,
    #[command(flatten)]
    pub(crate) pairs: PairArgs,
    #[command(flatten)]
    pub(crate) split: SplitArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
    /// Write a self-contained HTML page with the thresholds, their meaning in words, and the curves [default: none].
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) reading: PictureArgs,
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    number(text, |value| *value > 0.0 && *value < 1.0, "a rate above 0 and below 1 is allowed")
}

/// Show what this machine has, processor, memory, GPU and libraries, what runs on it, what does not, and what to do.
/// Exits with 1 when nothing can run a model.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Model file or bundle folder: show how many of its nodes each provider runs [default: none].
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Contract of a foreign --model that carries none, as JSON [default: the model's own].
    #[arg(long, value_name = "FILE.json", requires = "model")]
    pub(crate) contract: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
}

/// Measure how fast models run on this machine: each combination of model, provider, threads and batch in a process of
/// its own. What one run computes is counted, and held against what the machine reaches in matrix products and memory
/// at the same time. Files of one network in several precisions are compared by naming all of them.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Model files, or bundle folders with a model.onnx.
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<PathBuf>,
    /// Execution providers, between commas: auto, cpu, cuda[:DEVICE], tensorrt[:DEVICE], openvino[:cpu|gpu|npu], coreml
    /// or xnnpack.
    #[arg(long, value_delimiter = ',', default_value = "auto", value_name = "NAMES")]
    pub(crate) provider: Vec<Provider>,
    /// Pictures per run, 1 to 4096, between commas.
    #[arg(long, visible_alias = "batch-size", value_delimiter = ',', default_value = "1,4,16", value_name = "NUMBERS",
        value_parser = |text: &str| terminal::whole(text, 1, 4096))]
    pub(crate) batch: Vec<usize>,
    /// Threads of a run, between commas; 0 is one per core that affinity and control groups leave to this program.
    #[arg(long, value_delimiter = ',', default_value = "0", value_name = "NUMBERS",
        value_parser = terminal::threads_or_cores)]
    pub(crate) threads: Vec<usize>,
    /// Seconds that each combination is run for, above 0, at most 3600; ten runs at least.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Contract of foreign models that carry none, as JSON [default: the model's own].
    #[arg(long, value_name = "FILE.json")]
    pub(crate) contract: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tuning: TuningArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t = FactsFormat::Table)]
    pub(crate) format: FactsFormat,
    /// Draw throughput and latency over the batch [default: nothing is drawn].
    #[arg(long, value_name = "FILE.png")]
    pub(crate) picture: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, |value| *value > 0.0 && *value <= 3600.0, "seconds above 0 and up to 3600 are allowed")
}

/// Draw the face of a picture in other poses.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("wanted").required(true).args(["pose", "poses", "turntable"])))]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Picture of the face.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: PathBuf,
    /// Pose to draw, in degrees: YAW,PITCH,ROLL [default: none].
    #[arg(long, value_name = "ANGLES", value_parser = pose, allow_hyphen_values = true)]
    pub(crate) pose: Option<Pose>,
    /// Poses to draw in degrees, as 00000.png and so on in the folder --out: .npy, .csv with a header such as
    /// yaw,pitch,roll, .jsonl, or a face set's .json [default: none].
    #[arg(long, value_name = "FILE")]
    pub(crate) poses: Option<PathBuf>,
    /// Turn the head from one side to the other, as a strip of pictures in a .png or an animation in an .apng [default:
    /// off].
    #[arg(long)]
    pub(crate) turntable: bool,
    /// Pictures of the --turntable.
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(8), value_name = "N",
        value_parser = count,
        conflicts_with_all = ["pose", "poses"])]
    pub(crate) steps: NonZeroUsize,
    /// Yaw at the ends of the --turntable, in degrees (0 to 180).
    #[arg(long, default_value_t = 60.0, value_name = "DEGREES", value_parser = turn,
        conflicts_with_all = ["pose", "poses"])]
    pub(crate) turn: f32,
    /// PNG to write, with --turntable also an animated one (.apng); with --poses a folder.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) out: PathBuf,
}

/// Angles in degrees.
pub(crate) type Pose = Vec<f32>;

/// Reads angles between commas.
pub(crate) fn pose(text: &str) -> Result<Pose, String> {
    let angle = |word: &str| match word.trim().parse::<f32>() {
        Ok(value) if value.is_finite() && value.abs() <= 360.0 => Ok(value),
        _ => Err(format!("`{}` is no angle; degrees from -360 to 360 between commas are allowed", word.trim())),
    };
    text.split(',').map(angle).collect()
}

/// A number that `fits`.
fn number<T: FromStr>(text: &str, fits: impl Fn(&T) -> bool, allowed: &str) -> Result<T, String> {
    text.parse().ok().filter(fits).ok_or_else(|| allowed.to_owned())
}

pub(crate) fn identity(text: &str) -> Result<String, datasets::NameError> {
    datasets::identity_name(text)
}

fn turn(text: &str) -> Result<f32, String> {
    number(text, |value| (0.0..=180.0).contains(value), "degrees from 0 to 180 are allowed")
}

pub(crate) fn cosine(text: &str) -> Result<f32, String> {
    number(text, |value| (-1.0..=1.0).contains(value), "a cosine similarity from -1 to 1 is allowed")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::{Command, DeployArgs};

    #[test]
    fn the_definition_is_sound() {
        DeployArgs::command().debug_assert();
    }

    #[test]
    fn every_flag_says_its_default() {
        let mut silent = vec![];
        for command in DeployArgs::command().get_subcommands() {
            for flag in command.get_opts().filter(|flag| !flag.is_required_set() && !flag.is_hide_set()) {
                let about = flag.get_help().map(ToString::to_string).unwrap_or_default();
                if !about.contains("[default: ") && flag.get_default_values().is_empty() {
                    silent.push(format!("{} --{}: {about}", command.get_name(), flag.get_id()));
                }
            }
        }
        assert!(silent.is_empty(), "{}", silent.join("\n"));
    }

    #[test]
    fn similarities_are_in_range() {
        for (text, expected) in [("0.5", Some(0.5)), ("-1", Some(-1.0)), ("1.01", None), ("NaN", None), ("50%", None)] {
            assert_eq!(cosine(text).ok(), expected, "{text}");
        }
        let args = ["deploy", "search", "-m", "m", "--gallery", "g", "--query", "a", "b", "--min-similarity", "-0.5"];
        let Command::Search(args) = DeployArgs::parse_from(args).command else { unreachable!() };
        assert_eq!((args.query.len(), args.min_similarity, args.top_k.get()), (2, Some(-0.5), 10));
    }
}
