//! Admission: requests by number, bodies and pictures by their bytes of memory.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{header, request};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::config::Limits;
use super::error::Problem;

/// Memory is given out in such pieces.
const PIECE: usize = 1024;

/// What is given out.
pub(crate) struct Admission {
    limits: Limits,
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

/// Memory of a request; it goes back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(Option<OwnedSemaphorePermit>);

impl Held {
    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.0 {
            Some(own) => own.merge(permit),
            none => *none = Some(permit),
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        let requests = Arc::new(Semaphore::new(limits.max_requests));
        let memory = Arc::new(Semaphore::new(limits.max_memory * (1 << 20) / PIECE));
        Self { limits, requests, memory }
    }

    /// A place among the requests that are worked on.
    pub(crate) fn request(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.requests).try_acquire_owned().map_err(|_| {
            let allowed = format!("{} at a time", self.limits.max_requests);
            Problem::busy("service", "it has enough requests").allowed(allowed).flag("--max-requests")
        })
    }

    /// Memory for what comes from `place`, or more of it.
    pub(crate) fn take(&self, held: &mut Held, bytes: u64, place: &str) -> Result<(), Problem> {
        let all = self.limits.max_memory * (1 << 20);
        let allowed = || format!("{} MiB for all requests", self.limits.max_memory);
        let pieces = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(PIECE);
        let Some(pieces) = u32::try_from(pieces).ok().filter(|pieces| *pieces as usize <= all / PIECE) else {
            let found = format!("{bytes} bytes of memory");
            let unfit = Problem::unfit(place, "this takes more memory than there is");
            return Err(unfit.found(found).allowed(allowed()).flag("--max-memory"));
        };
        let permit = Arc::clone(&self.memory).try_acquire_many_owned(pieces).map_err(|_| {
            let busy = Problem::busy(place, "the memory for requests is used up");
            busy.found(format!("{bytes} bytes more")).allowed(allowed()).flag("--max-memory")
        })?;
        held.add(permit);
        Ok(())
    }

    /// The whole body of a request, as far as it is allowed, with the memory that it takes.
    pub(crate) async fn body(&self, request: Request, held: &mut Held) -> Result<(request::Parts, Bytes), Problem> {
        let (parts, body) = request.into_parts();
        let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let announced: u64 = announced.unwrap_or(0);
        if announced > self.limits.max_body as u64 {
            return Err(self.too_large(announced));
        }
        let seconds = self.limits.body_seconds;
        let read = timeout(self.limits.body_time(), self.collect(body, announced, held)).await;
        let late = || {
            let slow = Problem::too_slow("body", "the body did not come in time");
            slow.allowed(format!("{seconds} seconds")).flag("--body-seconds")
        };
        Ok((parts, read.map_err(|_| late())??))
    }

    fn too_large(&self, found: u64) -> Problem {
        let allowed = format!("{} bytes", self.limits.max_body);
        Problem::too_large("body", "the body is too large")
            .found(format!("{found} bytes"))
            .allowed(allowed)
            .flag("--max-body")
    }

    async fn collect(&self, mut body: Body, announced: u64, held: &mut Held) -> Result<Bytes, Problem> {
        // A client may announce much and send little: what is reserved ahead has a bound.
        let mut taken = (announced as usize).min(64 << 10);
        self.take(held, taken as u64, "body")?;
        let mut bytes = BytesMut::with_capacity(taken);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Problem::malformed("body", "the body ends before it is whole"))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > self.limits.max_body {
                return Err(self.too_large(length as u64));
            }
            if length > taken {
                // In doubled steps, as the buffer grows.
                let more = length.max(2 * taken).min(self.limits.max_body) - taken;
                self.take(held, more as u64, "body")?;
                taken += more;
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    fn admission(limits: Limits) -> Admission {
        Admission::new(limits)
    }

    #[test]
    fn memory_goes_back_and_what_can_never_fit_is_not_told_to_wait() {
        let own = admission(Limits { max_memory: 1, ..Limits::default() });
        let status = |bytes| {
            let mut held = Held::default();
            own.take(&mut held, bytes, "picture 1").map_or_else(|no| no.into_response().status().as_u16(), |()| 200)
        };
        assert_eq!([status(1 << 20), status(1 << 20), status((1 << 20) + 1), status(u64::MAX)], [200, 200, 422, 422]);
        let mut held = Held::default();
        own.take(&mut held, 600 << 10, "picture 1").unwrap();
        assert_eq!(status(600 << 10), 503);
        own.take(&mut held, 400 << 10, "picture 2").unwrap();
        drop(held);
        assert_eq!(status(1 << 20), 200);
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_whatever_it_announces() {
        let own = admission(Limits { max_body: 1000, ..Limits::default() });
        let read = async |announced: Option<usize>, bytes: usize| {
            let mut request = Request::builder().uri("/");
            if let Some(announced) = announced {
                request = request.header(header::CONTENT_LENGTH, announced);
            }
            let request = request.body(Body::from(vec![7; bytes])).unwrap();
            let mut held = Held::default();
            own.body(request, &mut held)
                .await
                .map_or_else(|no| no.into_response().status().as_u16() as usize, |read| read.1.len())
        };
        assert_eq!([read(None, 1000).await, read(Some(1000), 1000).await, read(None, 0).await], [1000, 1000, 0]);
        assert_eq!([read(None, 1001).await, read(Some(1001), 10).await], [413, 413]);
        assert_eq!(own.memory.available_permits(), Limits::default().max_memory << 10, "all memory is back");
    }
}
