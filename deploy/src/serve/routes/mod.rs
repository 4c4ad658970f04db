//! Every path of the service: one table, which the router, the document of the interface and the tests read.

mod audit;
mod embed;
mod info;
mod matches;
mod openapi;
mod page;
mod subjects;
mod thresholds;
mod v2;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};

use super::auth::{Role, Who};
use super::error::{Cause, Problem, in_a_sentence};
use super::state::App;

/// State of every handler.
type Shared = State<Arc<App>>;

/// A path with a method.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// Who may; none is everybody.
    pub(crate) role: Option<Role>,
    handler: fn() -> MethodRouter<Arc<App>>,
}

/// All of them.
pub(crate) fn all() -> Vec<Route> {
    let route = |method: Method, path, role, handler| Route { method, path, role, handler };
    let (read, matching, enrol, admin) = (Some(Role::Read), Some(Role::Match), Some(Role::Enrol), Some(Role::Admin));
    vec![
        route(Method::GET, "/v2", None, || get(v2::server)),
        route(Method::GET, "/v2/health/live", None, || get(v2::live)),
        route(Method::GET, "/v2/health/ready", None, || get(v2::ready)),
        route(Method::GET, "/v2/models/{model}", matching, || get(v2::model)),
        route(Method::GET, "/v2/models/{model}/ready", matching, || get(v2::model_ready)),
        route(Method::POST, "/v2/models/{model}/infer", admin, || post(v2::infer)),
        route(Method::GET, "/v1/info", read, || get(info::info)),
        route(Method::POST, "/v1/embed", admin, || post(embed::embed)),
        route(Method::POST, "/v1/verify", matching, || post(embed::verify)),
        route(Method::POST, "/v1/search", matching, || post(embed::search)),
        route(Method::GET, "/v1/subjects", read, || get(subjects::list)),
        route(Method::POST, "/v1/subjects", enrol, || post(subjects::enrol)),
        route(Method::GET, "/v1/subjects/{id}", read, || get(subjects::one)),
        route(Method::DELETE, "/v1/subjects/{id}", enrol, || delete(subjects::remove)),
        route(Method::POST, "/v1/subjects/{id}/merge", enrol, || post(subjects::merge)),
        route(Method::DELETE, "/v1/templates/{id}", enrol, || delete(subjects::remove_template)),
        route(Method::GET, "/v1/templates/{id}/picture", read, || get(subjects::picture)),
        route(Method::GET, "/v1/matches", matching, || get(matches::list)),
        route(Method::POST, "/v1/matches/{id}/review", enrol, || post(matches::review)),
        route(Method::GET, "/v1/thresholds", read, || get(thresholds::list)),
        route(Method::PUT, "/v1/threshold", admin, || put(thresholds::set)),
        route(Method::GET, "/v1/audit", admin, || get(audit::log)),
        route(Method::POST, "/v1/reload", admin, || post(audit::reload)),
        route(Method::GET, "/metrics", read, || get(info::metrics)),
        route(Method::GET, "/openapi.json", None, || get(info::openapi)),
        route(Method::GET, "/", None, || get(page::index)),
        route(Method::GET, "/page/{*file}", None, || get(page::file)),
    ]
}

/// The service, as requests meet it.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for Route { path, role, handler, .. } in all() {
        let mut methods = handler().route_layer(from_fn_with_state((Arc::clone(app), role), guard));
        if path.starts_with("/v2") {
            methods = methods.layer(from_fn(in_a_sentence));
        }
        router = router.route(path, methods);
    }
    router
        .fallback(nothing)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(app), observe))
        .with_state(Arc::clone(app))
}

async fn nothing(request: Request) -> Problem {
    Problem::missing("path", "there is nothing here").found(request.uri().path()).allowed("the paths of /openapi.json")
}

async fn no_method(request: Request) -> Problem {
    Problem::method(request.uri().path(), request.method().as_str())
}

/// Lets in who may.
async fn guard(State((app, role)): State<(Arc<App>, Option<Role>)>, mut request: Request, next: Next) -> Response {
    let Some(role) = role else { return next.run(request).await };
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str);
    let asked = format!("{} {route}", request.method());
    let who = match app.door.load().admit(request.headers(), app.config.limits.rate) {
        Ok(who) => who,
        Err(problem) => {
            app.deny(format!("{asked}: {}", problem.reason()), None);
            return problem.into_response();
        }
    };
    let name = who.name.clone();
    let mut response = if who.role < role {
        app.deny(format!("{asked}: role {}, {role} is needed", who.role), name.clone());
        let refused = Problem::forbidden(request.uri().path(), "the role of this key may not do this");
        refused.found(who.role).allowed(format!("{role} and above")).into_response()
    } else {
        match app.admission.request() {
            Err(problem) => problem.into_response(),
            Ok(_place) => {
                request.extensions_mut().insert(who);
                app.metrics.in_flight.inc();
                let working = Working(&app);
                let response = next.run(request).await;
                drop(working);
                response
            }
        }
    };
    response.extensions_mut().insert(Name(name));
    response
}

/// A request that is worked on; also one whose client leaves is over.
struct Working<'a>(&'a App);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

/// Whose key it was.
#[derive(Debug, Clone)]
struct Name(Option<String>);

/// A request until it is answered; one whose client leaves before is counted as such.
struct Observed<'a> {
    app: &'a App,
    route: String,
    began: Instant,
    answered: bool,
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.app.metrics.answered(&self.route, CLIENT_LEFT, self.began.elapsed().as_secs_f64());
        }
    }
}

/// What nginx writes where nobody waits for an answer.
const CLIENT_LEFT: u16 = 499;

/// Counts and logs an answer. What is logged is the route, not the path; nothing that was sent or found.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let number = app.next_request();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let mut observed = Observed { app: &app, route, began: Instant::now(), answered: false };
    let mut response = next.run(request).await;
    observed.answered = true;
    let (status, time) = (response.status().as_u16(), observed.began.elapsed().as_secs_f64());
    app.metrics.answered(&observed.route, status, time);
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let method = if known.contains(&method) { method.to_string() } else { "other".to_owned() };
    let key = response.extensions().get::<Name>().and_then(|Name(name)| name.clone());
    let (key, route, milliseconds) = (key.as_deref(), observed.route.as_str(), time * 1000.0);
    match response.extensions().get::<Cause>() {
        Some(Cause(cause)) => tracing::error!(number, method, route, status, milliseconds, key, cause, "failed"),
        None => tracing::info!(number, method, route, status, milliseconds, key, "answered"),
    }
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-request-id"), number.into());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Runs what computes, or waits for the disk, on a thread that may.
async fn compute<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Problem::internal("a thread panicked; its message is on stderr")))
}

/// Who asks.
fn who(request: &Request) -> Who {
    request.extensions().get::<Who>().cloned().unwrap_or(Who { name: None, role: Role::Read })
}

/// A number of a path.
fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::unfit(what, "this is no number").found(text).allowed("a whole number"))
}

/// A similarity as its shortest decimal, as the other commands print it.
fn short(similarity: f32) -> f64 {
    similarity.to_string().parse().unwrap_or_else(|_| f64::from(similarity))
}

/// Whether somebody is found.
fn answer(is_match: bool) -> &'static str {
    if is_match { "match" } else { "no match" }
}
