//! Where a relay's tolls are agreed upon: connections of nodes in, gRPC over their streams, requests handed to the till. Who pays is
//! the node at the other end of the connection, so nobody can put a channel on another's bill.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wayfare_api::Refusal;
use wayfare_api::peer::ConsumerLine;
use wayfare_api::relay::{RelayService, serve_stream};
use wayfare_identity::NodeId;
use wayfare_session::{Tariff, TollReply, TollRequest};
use wayfare_transport::{QuicEndpoint, peer_node_key, remote_address};

use super::till::TollAsked;
use crate::provider::{Reception, accept, accept_streams};

/// Answers for one relay.
#[derive(Debug)]
pub(super) struct TollDesk {
    pub(super) tariff: Tariff,
    pub(super) reception: Reception<TollAsked, TollReply>,
}

/// Answers one node.
#[derive(Debug)]
struct NodeDesk {
    desk: Arc<TollDesk>,
    node: NodeId,
}

impl RelayService for NodeDesk {
    async fn describe(&self) -> Result<Tariff, Refusal> {
        Ok(self.desk.tariff)
    }

    async fn open(&self, request: TollRequest) -> Result<TollReply, Refusal> {
        // Signatures first: a stranger's request asks neither the chain nor the Hermes.
        request.verify()?;
        let consumer = request.agreement.consumer;
        let asked = TollAsked {
            node: self.node,
            request,
        };
        let reception = &self.desk.reception;
        let funds = reception.funds(consumer).await?;
        reception.open(asked, consumer, Some(funds)).await
    }

    async fn converse(&self, line: ConsumerLine) -> Result<(), Refusal> {
        self.desk.reception.converse(line).await
    }
}

/// Answers until cancelled.
pub(super) async fn listen(endpoint: QuicEndpoint, desk: Arc<TollDesk>, stop: CancellationToken) {
    let (streams, until) = (stop.clone(), stop);
    let serve = |connection| serve_node(connection, Arc::clone(&desk), streams.clone());
    accept(endpoint, serve, until).await;
}

async fn serve_node(connection: quinn::Connection, desk: Arc<TollDesk>, stop: CancellationToken) {
    let Some(node) = peer_node_key(&connection).map(NodeId) else {
        connection.close(quinn::VarInt::from_u32(1), b"without a node key");
        return;
    };
    let from = remote_address(&connection);
    let desk = Arc::new(NodeDesk { desk, node });
    let until = stop.clone();
    let serve = |stream| {
        let stopped = until.clone().cancelled_owned();
        serve_stream(stream, Some(from), Arc::clone(&desk), stopped)
    };
    accept_streams(&connection, TaskTracker::new(), serve, stop).await;
}
