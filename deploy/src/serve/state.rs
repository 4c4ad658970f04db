//! What all requests of a service share.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::auth::{Bucket, Door};
use super::certificate;
use super::config::{Config, Rule};
use super::error::Problem;
use super::limits::Admission;
use super::metrics::Metrics;
use super::people::People;
use super::queue::{self, Job, Queue};
use crate::gallery::{self as galleries, About, Making};
use crate::identify::Size;
use crate::report::Decision;
use crate::runtime::Model;
use crate::{DeployError, identify};

/// The false positive identification rate that searches keep where nobody chose one and the model is calibrated for it.
const FPIR: f64 = 0.01;

/// Refusals a second that are noted: whoever asks without a key is not to fill the disk.
const DENIALS: u32 = 10;

/// Bytes of a model card at most.
const LARGEST_CARD: u64 = 256 << 10;

/// What all requests of a service share.
pub(crate) struct App {
    pub(crate) config: Config,
    loaded: ArcSwap<Loaded>,
    pub(crate) people: Option<People>,
    pub(crate) door: ArcSwap<Door>,
    tls: Option<ArcSwap<ServerConfig>>,
    pub(crate) admission: Admission,
    pub(crate) metrics: Arc<Metrics>,
    rule: ArcSwap<Rule>,
    /// Refusals that are noted in the gallery's log: of those who are known, and of others, who cannot hide these.
    denials: [Mutex<Bucket>; 2],
    stopping: AtomicBool,
    reloading: Mutex<()>,
    requests: AtomicU64,
}

/// A model that is run.
pub(crate) struct Loaded {
    pub(crate) model: Arc<Model>,
    queue: Arc<Queue>,
    /// What the protocol calls it.
    pub(crate) name: String,
    /// Its card, where one lies beside it.
    pub(crate) card: Option<String>,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // No request has it any more.
        self.queue.close();
    }
}

impl Loaded {
    fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, DeployError> {
        let model = Arc::new(Model::open(&config.model, &config.options)?);
        model.embedding()?;
        let limits = &config.limits;
        let deadline = Duration::from_secs(limits.deadline_seconds);
        let queue = Arc::new(Queue::new(limits.max_queue, deadline, Arc::clone(metrics)));
        queue::start(&model, &queue, limits.batch_size)
            .map_err(|source| DeployError::Read { path: "a thread".into(), source })?;
        let (name, card) = (name(&model.path), card(&model.path));
        Ok(Self { model, queue, name, card })
    }

    /// What galleries of the model are pinned to.
    pub(crate) fn pin(&self) -> Result<gallery::Model, DeployError> {
        let (_, spec) = self.model.embedding()?;
        Ok(self.model.pin(spec))
    }

    /// Embeddings of normalised rows, each computed with what else waits.
    pub(crate) async fn embed(&self, rows: Vec<Vec<Vec<f32>>>) -> Result<Vec<Vec<f32>>, Problem> {
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        for inputs in rows {
            let (reply, answer) = oneshot::channel();
            jobs.push(Job::Embed { inputs, reply });
            answers.push(answer);
        }
        self.queue.push(jobs)?;
        let mut embedded = Vec::new();
        for answer in answers {
            embedded.push(answer.await.unwrap_or_else(|_| Err(Problem::internal("the network gave no answer")))?);
        }
        Ok(embedded)
    }

    /// All outputs of the model for a batch.
    pub(crate) async fn infer(&self, inputs: Vec<Vec<f32>>, rows: usize) -> Result<crate::runtime::Outputs, Problem> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(vec![Job::Infer { inputs, rows, reply }])?;
        answer.await.unwrap_or_else(|_| Err(Problem::internal("the network gave no answer")))
    }
}

/// A model is called as its folder, or its file.
fn name(path: &Path) -> String {
    let folder = path.parent().filter(|_| path.ends_with("model.onnx"));
    let folder = folder.and_then(|folder| folder.canonicalize().ok()).filter(|folder| folder.file_name().is_some());
    let named = folder.as_deref().unwrap_or(path).file_name().unwrap_or_default().to_string_lossy();
    named.strip_suffix(".onnx").unwrap_or(&named).to_owned()
}

fn tls(config: &Config) -> Result<Option<Arc<ServerConfig>>, DeployError> {
    config.tls.as_ref().map(|(chain, key)| certificate::read(chain, key)).transpose()
}

fn card(path: &Path) -> Option<String> {
    files::read_text_limited(&path.with_file_name("CARD.md"), LARGEST_CARD).ok()
}

impl App {
    /// Opens the model, which is tested, and the gallery.
    ///
    /// # Errors
    /// As [`Model::open`] and [`galleries::write_or_create`]; if the certificate or the keys cannot be used; if the
    /// gallery is too large for the rate that is asked for.
    pub(crate) fn open(config: Config) -> Result<Self, DeployError> {
        let tls = tls(&config)?;
        let metrics = Arc::new(Metrics::new());
        let loaded = Loaded::open(&config, &metrics)?;
        let door = Door::of(config.keys.as_ref(), config.limits.rate)?;
        let open = |folder: &std::path::PathBuf| {
            let how = Making { renewable: config.renewable, ..Making::default() };
            People::open(folder, &loaded.pin()?, &loaded.model.path, how, config.limits.max_queue, &metrics)
        };
        let people = config.gallery.as_ref().map(open).transpose()?;
        let noted = match &people {
            Some(people) => About::of(&people.store().about()?).threshold,
            None => None,
        };
        let rule = config.threshold.or(noted.map(Rule::Chosen)).unwrap_or(Rule::Fpir(FPIR));
        if let (Some(Rule::Fpir(fpir)), Some(people)) = (config.threshold, &people) {
            let (thresholds, size) = (loaded.thresholds(), people.size()?);
            if identify::threshold(thresholds, fpir, size, metrics::open_set::Fusion::Max).is_none() {
                return Err(DeployError::NoFpir { fpir, people: size.people, templates: Some(size.most) });
            }
        }
        Ok(Self {
            admission: Admission::new(config.limits),
            loaded: ArcSwap::from_pointee(loaded),
            people,
            door: ArcSwap::from_pointee(door),
            tls: tls.map(ArcSwap::new),
            metrics,
            rule: ArcSwap::from_pointee(rule),
            denials: [Bucket::full(DENIALS), Bucket::full(DENIALS)].map(Mutex::new),
            stopping: AtomicBool::new(false),
            reloading: Mutex::default(),
            requests: AtomicU64::new(1),
            config,
        })
    }

    /// The model that is run now; a request keeps it to its end.
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.loaded.load_full()
    }

    /// Encrypts a connection, if the service has a certificate: with the one that it has now.
    pub(crate) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.load_full()))
    }

    /// The gallery, for routes that need one.
    pub(crate) fn people(&self) -> Result<&People, Problem> {
        self.people.as_ref().ok_or_else(|| {
            Problem::conflict("service", "it has no gallery").found("none").allowed("a folder").flag("--gallery")
        })
    }

    /// A number for a request.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes a refusal in the gallery's log.
    pub(crate) fn deny(&self, what: String, who: Option<String>) {
        let bucket = &self.denials[usize::from(who.is_none())];
        let who = who.unwrap_or_else(|| "unknown".to_owned());
        let noted = bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take(DENIALS);
        let noted = noted && self.people.as_ref().is_none_or(|people| people.deny(what, who).is_ok());
        if !noted {
            self.metrics.unnoted.inc();
        }
    }

    /// Whether requests are taken.
    pub(crate) fn is_ready(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed)
    }

    /// Says that no more requests are to be sent here.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// By what searches decide.
    pub(crate) fn rule(&self) -> Rule {
        **self.rule.load()
    }

    pub(crate) fn set_rule(&self, rule: Rule) {
        self.rule.store(Arc::new(rule));
    }

    /// The similarity from which on somebody is found in a gallery of this size, and what it means.
    pub(crate) fn decision(&self, loaded: &Loaded, size: Size) -> (Option<f32>, Decision) {
        match self.rule() {
            Rule::Chosen(similarity) => (Some(similarity), Decision::chosen(similarity, "PUT /v1/threshold", "--fpir")),
            Rule::Fpir(fpir) => {
                match identify::threshold(loaded.thresholds(), fpir, size, metrics::open_set::Fusion::Max) {
                    Some(chosen) => (Some(chosen.similarity as f32), Decision::calibrated(fpir, size.people, chosen)),
                    None => (None, Decision::none()),
                }
            }
        }
    }

    /// Opens the model's files, the keys and the certificate again. If one of them cannot be used, the old ones serve
    /// on. It computes: on a thread that may.
    ///
    /// # Errors
    /// As [`App::open`]; if the model is not the one whose embeddings the gallery holds.
    pub(crate) fn reload(&self) -> Result<Arc<Loaded>, DeployError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let loaded = Loaded::open(&self.config, &self.metrics)?;
        if let (Some(people), Some(folder)) = (&self.people, &self.config.gallery) {
            galleries::pinned(folder, people.model(), &loaded.pin()?, &loaded.model.path)?;
        }
        let door = Door::of(self.config.keys.as_ref(), self.config.limits.rate)?;
        let tls = tls(&self.config)?;
        let loaded = Arc::new(loaded);
        self.loaded.store(Arc::clone(&loaded));
        self.door.store(Arc::new(door));
        if let (Some(now), Some(new)) = (&self.tls, tls) {
            now.store(new);
        }
        Ok(loaded)
    }
}

impl Loaded {
    /// The model's calibrated thresholds.
    pub(crate) fn thresholds(&self) -> &[contract::Threshold] {
        self.model.contract.threshold.as_deref().unwrap_or_default()
    }
}
