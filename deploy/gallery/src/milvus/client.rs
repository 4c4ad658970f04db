//! The SDK's calls, one after another and with errors in words.

use std::future::Future;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use milvus::v2::ClientV2;
use milvus::v2::error::Error;
use milvus::v2::request::{collection, dml, dql, index};
use milvus::v2::types::{
    ConnectConfig, ConsistencyLevel, FieldData, Ids, IndexParam, IndexType, LoadState, MetricType, QueryResults,
    RetryConfig, SearchVectors, TelemetryConfig,
};
use tokio::runtime::Runtime;

use super::address::{Access, Address};
use super::rows::{self, ID, VALUES};
use crate::GalleryError;

/// How long a server may take to answer for the first time.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a cluster may take to bring a gallery into memory.
const LOAD: Duration = Duration::from_secs(600);

/// Tries of a call that did not reach the server: about a second.
const TRIES: u32 = 6;

/// What the SDK takes as an answer is 4 MiB; the rest is for what is around the values.
pub(super) const ANSWER_BYTES: usize = 3 << 20;

/// A connection to the collection of a gallery. Not for use within an async runtime: it has its own.
pub(super) struct Client {
    sdk: ClientV2,
    gallery: String,
    address: String,
    // Dropped last: the connection lives in it.
    runtime: Runtime,
}

/// Which state a server answers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fresh {
    /// With everything that was acknowledged to anybody before the question.
    Now,
    /// Perhaps an older one: for what never changes, without waiting.
    Any,
}

/// Rows of an answer, or that they are more bytes than the SDK takes.
pub(super) enum Answer {
    Rows(QueryResults),
    TooLarge,
}

impl Client {
    pub(super) fn connect(address: &Address, access: &Access) -> Result<Self, GalleryError> {
        let shown = address.to_string();
        let failed =
            |what: &'static str, problem: String| GalleryError::Server { what, engine: shown.clone(), problem };
        // A host without a server is told at once and in the system's words; the SDK would try for ten seconds.
        let host = address.host.trim_start_matches('[').trim_end_matches(']');
        let resolved = (host, address.port).to_socket_addrs();
        let mut reached = Err(format!("the host has no address; is `{host}` right?"));
        for one in resolved.map_err(|error| failed("find the host of", error.to_string()))? {
            reached = TcpStream::connect_timeout(&one, CONNECT).map(drop).map_err(|error| format!("{one}: {error}"));
            if reached.is_ok() {
                break;
            }
        }
        reached.map_err(|problem| failed("reach", format!("{problem}; start the server or give its host and port")))?;
        let mut config = ConnectConfig::new()
            .uri(address.uri())
            .connect_timeout(CONNECT)
            .retry(RetryConfig::new().max_attempts(TRIES))
            .telemetry(TelemetryConfig::new().enabled(false));
        if let Some(token) = &access.token {
            config = config.token(token);
        }
        if let Some(database) = &address.database {
            config = config.database(database);
        }
        match &access.ca_file {
            Some(path) if address.tls => {
                std::fs::File::open(path).map_err(GalleryError::io("read", path))?;
                config = config.ca_certificate(path.to_string_lossy());
            }
            _ => config = config.secure(address.tls),
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| failed("start a thread for", error.to_string()))?;
        let sdk = runtime.block_on(ClientV2::new(&config)).map_err(|error| failed("talk to", words(&error)))?;
        Ok(Self { sdk, gallery: address.gallery.clone(), address: shown, runtime })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn error(&self, what: &'static str, problem: impl Into<String>) -> GalleryError {
        GalleryError::Server { what, engine: self.address.clone(), problem: problem.into() }
    }

    fn run<T>(&self, what: &'static str, work: impl Future<Output = Result<T, Error>>) -> Result<T, GalleryError> {
        self.runtime.block_on(work).map_err(|error| self.error(what, words(&error)))
    }

    pub(super) fn exists(&self) -> Result<bool, GalleryError> {
        self.run("look for", async {
            let ask = collection::HasCollectionRequest::builder().collection_name(&self.gallery).build()?;
            Ok(self.sdk.has_collection(ask).await?.exists())
        })
    }

    /// Makes the collection: one shard, so that what is written in one call is seen as a whole, and no index but the
    /// rows themselves, so that a search is exact.
    pub(super) fn create(&self, dim: usize) -> Result<(), GalleryError> {
        self.run("create", async {
            let ask = collection::CreateCollectionRequest::builder()
                .collection_name(&self.gallery)
                .schema(rows::schema(dim))
                .num_shards(1)
                .consistency_level(ConsistencyLevel::Strong)
                .build()?;
            self.sdk.create_collection(ask).await?;
            let flat = IndexParam::new().field_name(VALUES).index_type(IndexType::Flat).metric_type(MetricType::Ip);
            // There is nothing to wait for while there are no rows, and small servers cannot be asked.
            let ask = index::CreateIndexRequest::builder()
                .collection_name(&self.gallery)
                .index_param(flat)
                .sync(false)
                .build()?;
            self.sdk.create_index(ask).await
        })?;
        self.load()
    }

    /// Brings the collection into the servers' memory, unless it is there: how many copies of it there are is the
    /// cluster's business.
    pub(super) fn load(&self) -> Result<(), GalleryError> {
        self.run("load", async {
            let ask = collection::GetLoadStateRequest::builder().collection_name(&self.gallery).build()?;
            if self.sdk.get_load_state(ask).await?.state() == LoadState::Loaded {
                return Ok(());
            }
            let ask = collection::LoadCollectionRequest::builder()
                .collection_name(&self.gallery)
                .timeout_ms(LOAD.as_millis() as i64)
                .build()?;
            self.sdk.load_collection(ask).await
        })
    }

    /// Takes the collection out of the cluster.
    pub(super) fn destroy(&self) -> Result<(), GalleryError> {
        self.run("delete", async {
            let ask = collection::DropCollectionRequest::builder().collection_name(&self.gallery).build()?;
            self.sdk.drop_collection(ask).await
        })
    }

    pub(super) fn insert(&self, columns: Vec<FieldData>) -> Result<(), GalleryError> {
        self.run("write to", async {
            let ask = dml::InsertRequest::builder().collection_name(&self.gallery).columns(columns).build()?;
            self.sdk.insert(ask).await.map(drop)
        })
    }

    pub(super) fn delete(&self, condition: &str) -> Result<(), GalleryError> {
        self.run("remove from", async {
            let ask = dml::DeleteRequest::builder().collection_name(&self.gallery).filter(condition).build()?;
            self.sdk.delete(ask).await.map(drop)
        })
    }

    pub(super) fn count(&self, condition: &str) -> Result<u64, GalleryError> {
        let answer = match self.query(condition, &["count(*)"], Fresh::Now)? {
            Answer::Rows(rows) => rows,
            Answer::TooLarge => return Err(self.error("count in", "the answer is not a number")),
        };
        let count = answer.get_output_field("count(*)").and_then(FieldData::as_int64).and_then(<[i64]>::first);
        let count = count.and_then(|count| u64::try_from(*count).ok());
        count.ok_or_else(|| self.error("count in", "the answer is not a number"))
    }

    pub(super) fn query(&self, condition: &str, fields: &[&str], fresh: Fresh) -> Result<Answer, GalleryError> {
        let level = match fresh {
            Fresh::Now => ConsistencyLevel::Strong,
            Fresh::Any => ConsistencyLevel::Eventually,
        };
        let answer = self.runtime.block_on(async {
            let ask = dql::QueryRequest::builder()
                .collection_name(&self.gallery)
                .filter(condition)
                .output_fields(fields.iter().copied())
                .consistency_level(level)
                .build()?;
            self.sdk.query(ask).await
        });
        match answer {
            Ok(answer) => Ok(Answer::Rows(answer.results().clone())),
            Err(error) if words(&error).contains("message length too large") => Ok(Answer::TooLarge),
            Err(error) => Err(self.error("read", words(&error))),
        }
    }

    /// For each probe at most `limit` ids with the similarities that the server found, best first.
    pub(super) fn search(
        &self,
        condition: &str,
        probes: Vec<Vec<f32>>,
        limit: usize,
    ) -> Result<Vec<Vec<(i64, f32)>>, GalleryError> {
        let count = probes.len();
        let answer = self.run("search", async {
            let ask = dql::SearchRequest::builder()
                .collection_name(&self.gallery)
                .vector_field(VALUES)
                .vectors(SearchVectors::Float(probes))
                .filter(condition)
                .limit(limit as i64)
                .metric_type(MetricType::Ip)
                .output_fields([ID])
                .consistency_level(ConsistencyLevel::Strong)
                .build()?;
            self.sdk.search(ask).await
        })?;
        let lists = answer.results().get_results();
        let hits = lists.iter().map(|list| {
            let ids: &[i64] = match list.get_ids() {
                Ids::Int64(ids) => ids,
                _ => &[],
            };
            let scores = list.get_scores();
            if ids.len() != scores.len() || scores.iter().any(|score| !score.is_finite()) {
                let problem = format!("the answer has {} ids and {} similarities", ids.len(), scores.len());
                return Err(self.error("search", problem));
            }
            Ok(ids.iter().copied().zip(scores.iter().copied()).collect())
        });
        let mut hits = hits.collect::<Result<Vec<Vec<_>>, _>>()?;
        // A server that finds nothing for anybody may answer without lists.
        if hits.is_empty() {
            hits.resize(count, Vec::new());
        }
        if hits.len() != count {
            return Err(self.error("search", format!("{} answers to {count} probes", hits.len())));
        }
        Ok(hits)
    }
}

/// An error without what only a programmer of the client reads.
fn words(error: &Error) -> String {
    match error {
        Error::Grpc(status) => format!("{}: {}", status.code(), status.message()),
        Error::RetryExhausted { attempts, source } => format!("{} ({attempts} tries)", words(source)),
        other => other.to_string(),
    }
}
