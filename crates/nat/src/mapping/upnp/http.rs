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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What is read from a box that answers so, with its last part again and again.
    async fn read_from(head: &'static str, again: &'static [u8]) -> Result<Bytes, Refusal> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let SocketAddr::V4(at) = listener.local_addr().unwrap() else {
            panic!("it is of IPv4");
        };
        let box_ = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = stream.read(&mut [0; 1_024]).await.unwrap();
            assert!(asked > 0);
            stream.write_all(head.as_bytes()).await.unwrap();
            while !again.is_empty() && stream.write_all(again).await.is_ok() {}
        });
        let inside = Inside {
            gateway: Ipv4Addr::LOCALHOST,
            local: Ipv4Addr::LOCALHOST,
            mark: None,
        };
        let read = get(inside, at, "/page").await;
        box_.await.unwrap();
        read
    }

    #[tokio::test]
    async fn a_page_is_read_in_any_clothes() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage",
            "HTTP/1.0 200 OK\r\n\r\npage",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n",
        ] {
            assert_eq!(read_from(head, b"").await.unwrap(), "page", "{head}");
        }
    }

    #[tokio::test]
    async fn a_box_that_never_ends_is_left() {
        for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nX: ", ""] {
            let read = read_from(head, &[b'x'; 1_024]).await;
            assert!(matches!(read, Err(Refusal::Refused(_))), "{read:?}");
        }
    }

    #[tokio::test]
    async fn a_box_is_not_followed_elsewhere() {
        let head =
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        let read = read_from(head, b"").await;
        assert!(matches!(read, Err(Refusal::Refused(_))), "{read:?}");
    }
}
