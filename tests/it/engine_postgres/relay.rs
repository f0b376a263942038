//! An address that leads to one server and then to another, and loses answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::postgres::connect;

/// One text from a server.
pub(super) async fn asked(url: &str, sql: &str) -> String {
    let mut session = connect(url).await;
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_one(&mut session)
        .await
        .unwrap()
}

/// Passes bytes on to a server; on demand it drops the next answer on each open connection, and closes it.
pub(super) struct Relay {
    pub(super) port: u16,
    server: Arc<AtomicU16>,
    swallow: tokio::sync::watch::Sender<u64>,
}

impl Relay {
    pub(super) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (swallow, order) = tokio::sync::watch::channel(0);
        let server = Arc::new(AtomicU16::new(server));
        let leads_to = server.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = leads_to.load(Ordering::Relaxed);
                tokio::spawn(relay(client, server, order.clone()));
            }
        });
        Self {
            port,
            server,
            swallow,
        }
    }

    /// New connections go to another server.
    pub(super) fn lead_to(&self, server: u16) {
        self.server.store(server, Ordering::Relaxed);
    }

    pub(super) fn swallow_answers(&self) {
        self.swallow.send_modify(|n| *n += 1);
    }
}

async fn relay(client: TcpStream, server: u16, order: tokio::sync::watch::Receiver<u64>) {
    let began_with = *order.borrow();
    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 65_536];
    loop {
        match from_server.read(&mut buffer).await {
            Ok(read) if read > 0 && *order.borrow() == began_with => {
                if to_client.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
