//! Servers that cannot be trusted, in front of a chain that can: whatever a test wants to be told instead of the truth.
//! It refuses to change the chain.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{DevChain, RpcError};

/// What a crooked server says.
#[derive(Debug)]
pub enum Told {
    /// This, true or not.
    Answer(Result<Value, RpcError>),
    /// That it is broken, after having done what it was asked to.
    Broken,
    /// Nothing, for ever.
    Silence,
}

type Bend = dyn Fn(&str, &Value, Result<Value, RpcError>) -> Told + Send + Sync;

/// Bends answers: the method, its parameters, and the truth go in.
#[derive(Clone)]
pub struct Crook(Arc<Bend>);

impl fmt::Debug for Crook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crook").finish_non_exhaustive()
    }
}

impl Crook {
    /// A server that answers so.
    #[must_use]
    pub fn new(
        bend: impl Fn(&str, &Value, Result<Value, RpcError>) -> Told + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(bend))
    }
}

impl DevChain {
    /// Serves JSON-RPC, one call a request, through a crook. Otherwise as [`DevChain::serve`].
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve_crooked<F>(
        self,
        crook: Crook,
        listener: TcpListener,
        until: F,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let router = Router::new()
            .route("/", post(answer))
            .with_state((self, crook));
        axum::serve(listener, router)
            .with_graceful_shutdown(until)
            .await
    }
}

async fn answer(
    State((chain, crook)): State<(DevChain, Crook)>,
    Json(request): Json<Value>,
) -> Response {
    let method = request.get("method").and_then(Value::as_str).unwrap_or("");
    let params = request.get("params").unwrap_or(&Value::Null);
    let truth = chain.call(method, params);
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    match crook.0(method, params, truth) {
        Told::Answer(Ok(result)) => {
            Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response()
        }
        Told::Answer(Err(error)) => {
            Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response()
        }
        Told::Broken => StatusCode::BAD_GATEWAY.into_response(),
        Told::Silence => std::future::pending().await,
    }
}
