//! One request to a box at a time, over TCP. It refuses long answers, slow ones, and to follow the box anywhere else.

use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::super::Refusal;
use super::super::gateway::Inside;

/// The longest page that is read: descriptions are below 16 KiB. With the buffer below all that one request can take.
const LONGEST: usize = 64 * 1_024;
/// The longest head, of hyper's smallest kind.
const BUFFER: usize = 16 * 1_024;
/// One request to a box that may be busy.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a box is to do.
pub(super) struct Call<'a> {
    pub(super) path: &'a str,
    pub(super) action: String,
    pub(super) body: String,
}

/// Reads a page.
pub(super) async fn get(inside: Inside, at: SocketAddrV4, path: &str) -> Result<Bytes, Refusal> {
    let page = request(at, Method::GET, path).body(Full::default());
    match fetch(inside, at, page).await? {
        (true, body) => Ok(body),
        (false, _) => Err(Refusal::Refused("it does not say what it is".into())),
    }
}

/// Says something, and whether that went well by HTTP's word.
pub(super) async fn post(
    inside: Inside,
    at: SocketAddrV4,
    call: Call<'_>,
) -> Result<(bool, Bytes), Refusal> {
    let request = request(at, Method::POST, call.path)
        .header("SOAPAction", call.action)
        .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
        .body(Full::from(call.body));
    fetch(inside, at, request).await
}

fn request(at: SocketAddrV4, method: Method, path: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, at.to_string())
        .header(CONNECTION, "close")
}

async fn fetch(
    inside: Inside,
    at: SocketAddrV4,
    request: Result<Request<Full<Bytes>>, hyper::http::Error>,
) -> Result<(bool, Bytes), Refusal> {
    let request = request.map_err(|_| Refusal::Refused("its address makes no sense".into()))?;
    let exchange = async {
        let stream = connect(inside, at).await.map_err(|_| Refusal::Silent)?;
        exchange(stream, request)
            .await
            .map_err(|error| Refusal::Refused(error.to_string()))
    };
    timeout(PATIENCE, exchange)
        .await
        .map_err(|_| Refusal::Silent)?
}

async fn connect(inside: Inside, at: SocketAddrV4) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(mark) = inside.mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    socket.connect(at.into()).await
}

async fn exchange(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
) -> Result<(bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let well = answer.status().is_success();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await?;
        Ok((well, body.to_bytes()))
    };
    let connection = async {
        // What it came to is told by the answer.
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = connection => Err("the box hung up".into()),
    }
}
