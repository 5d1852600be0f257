//! What passes for an answer, and that nothing behind a head is lost.

#![allow(clippy::unwrap_used)]

use futures::{SinkExt, StreamExt};
use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::tungstenite::Message;

use super::*;

const LINES: usize = 64 << 10;

/// A node's end, its request sent, and the other end of the line.
async fn asking() -> (WebSocketStream<Upgraded<DuplexStream>>, DuplexStream) {
    let (mut node, relay) = duplex(LINES);
    let asked = Asked::new("192.0.2.1:443").unwrap();
    node.write_all(&asked.request).await.unwrap();
    let stream = Upgraded::new(node, asked, |error| io::Error::other(error.to_string()));
    let channel = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    (channel, relay)
}

fn binary(number: u8) -> Message {
    Message::Binary(vec![number; 300].into())
}

#[tokio::test]
async fn frames_that_come_along_with_a_head_are_not_lost() {
    let (mut node, mut relay) = asking().await;
    for number in 0..20 {
        node.send(binary(number)).await.unwrap();
    }
    // All of it is there before the relay looks.
    let mut relay = accept(&mut relay, WebSocketConfig::default())
        .await
        .unwrap();
    for number in 0..20 {
        assert_eq!(relay.next().await.unwrap().unwrap(), binary(number));
        relay.send(binary(number)).await.unwrap();
    }
    // And here before the node does.
    for number in 0..20 {
        assert_eq!(node.next().await.unwrap().unwrap(), binary(number));
    }
}

#[tokio::test]
async fn a_head_may_come_in_pieces() {
    let (mut node, mut theirs) = asking().await;
    node.send(binary(1)).await.unwrap();
    let mut bytes = vec![0; LINES];
    let length = theirs.read(&mut bytes).await.unwrap();
    let (mut near, far) = duplex(LINES);
    let pieces = async {
        for byte in &bytes[..length] {
            near.write_all(std::slice::from_ref(byte)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let accepting = accept(far, WebSocketConfig::default());
    let ((), accepted) = tokio::join!(pieces, accepting);
    let mut relay = accepted.unwrap();
    assert_eq!(relay.next().await.unwrap().unwrap(), binary(1));
    relay.send(binary(2)).await.unwrap();
    drop(relay);
    bytes.clear();
    near.read_to_end(&mut bytes).await.unwrap();
    let pieces = async {
        for byte in &bytes {
            theirs.write_all(std::slice::from_ref(byte)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let ((), answered) = tokio::join!(pieces, node.next());
    assert_eq!(answered.unwrap().unwrap(), binary(2));
}

#[tokio::test]
async fn another_answer_than_the_one_wanted_is_an_error_that_says_why() {
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n";
    let cases = [
        ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), "404"),
        (
            "HTTP/1.1 101 Go on\r\n\r\n".to_owned(),
            "upgrade: websocket",
        ),
        (format!("{upgrade}\r\n"), "connection: upgrade"),
        (
            format!("{upgrade}Connection: Upgrade\r\nSec-WebSocket-Accept: AA==\r\n\r\n"),
            "Accept",
        ),
        ("SSH-2.0-x\r\n\r\n".to_owned(), "HTTP"),
        (String::new(), "Handshake"),
        ("x".repeat(MOST_HEAD + 1), "Attack"),
    ];
    for (answer, why) in cases {
        let (mut node, mut relay) = asking().await;
        relay.write_all(answer.as_bytes()).await.unwrap();
        relay.shutdown().await.unwrap();
        let error = node.next().await.unwrap().unwrap_err().to_string();
        let said = error.to_lowercase();
        assert!(said.contains(&why.to_lowercase()), "{answer:.40}: {error}");
    }
}

#[tokio::test]
async fn a_request_that_is_none_is_refused() {
    let long = format!(
        "GET / HTTP/1.1\r\nCookie: {}\r\n\r\n",
        "x".repeat(MOST_HEAD)
    );
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\n\r\n",
        "GET",
        &long,
    ] {
        let (mut node, relay) = duplex(LINES);
        node.write_all(request.as_bytes()).await.unwrap();
        node.shutdown().await.unwrap();
        let refused = accept(relay, WebSocketConfig::default()).await;
        assert!(refused.is_err(), "{request:.40}");
    }
}
