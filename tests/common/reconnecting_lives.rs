//! Lives of on-demand connections: they connect whenever somebody asks, close when nobody waits
//! any more, and are sometimes ended by force.

use std::io;
use std::thread::JoinHandle;

use super::{
    Arc, Connection, Duration, Ended, Ledger, Life, Mutex, Over, PLENTY, Place, Rng, Transport,
    start,
};

/// Plays one life of an on-demand connection and of the servers that it connects to.
pub fn play_reconnecting(seed: u64, callers: usize, requests: usize) -> Ended {
    let mut rng = Rng::with_seed(seed);
    let is_orderly = rng.bool();
    let story = format!("{callers} callers with {requests} requests each, orderly: {is_orderly}");
    let life = Life::new(Ledger::new(seed), None, false, Vec::new());
    // Here everybody lets go before the end.
    life.kept.lock().take();
    let servers = Arc::new(Mutex::new(Vec::new()));
    let connection = {
        let builder = Connection::builder().name("life0").linger(Some(PLENTY));
        let builder = life.serve(0, builder, false, &mut rng);
        let (life, servers) = (Arc::clone(&life), Arc::clone(&servers));
        let chances = Mutex::new(rng.fork());
        builder.build_on_demand(move || {
            let mut rng = chances.lock().fork();
            if rng.u8(..16) == 0 {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, server) = life.connect(&mut rng);
            servers.lock().push(server);
            Ok(ours)
        })
    };
    let asking: Vec<_> = (0..callers)
        .map(|_| {
            let (life, mut rng) = (Arc::clone(&life), rng.fork());
            let connection = connection.clone();
            start(move || {
                for _ in 0..requests {
                    life.ask_reconnecting(&connection, is_orderly, &mut rng);
                }
            })
        })
        .collect();
    for caller in asking {
        caller.join().unwrap();
    }
    life.ledger.wait_settled();
    // Nobody asks any more, so whoever holds it open lets go.
    life.keep(connection.wait_closed());
    let servers: Vec<_> = std::mem::take(&mut *servers.lock());
    for server in servers {
        server.join().unwrap();
    }
    life.finish(None, false);
    Ended {
        seed,
        ledger: Arc::clone(&life.ledger),
        is_orderly,
        story,
    }
}

impl Life {
    /// Starts a server on the other side of a new link.
    fn connect(self: &Arc<Self>, rng: &mut Rng) -> (Transport, JoinHandle<()>) {
        let over = rng
            .choice([Over::Memory, Over::Torn, Over::Sockets, Over::Pipes])
            .unwrap_or(Over::Memory);
        let [ours, theirs] = over.link(rng).ends;
        let server = self.open(1, theirs, rng);
        (ours, start(move || drop(server.serve())))
    }

    fn ask_reconnecting(
        self: &Arc<Self>,
        connection: &Connection,
        is_orderly: bool,
        rng: &mut Rng,
    ) {
        match rng.u8(..16) {
            0 if !is_orderly => drop(connection.abort()),
            1 if !is_orderly => drop(connection.shutdown(Some(Duration::ZERO))),
            // Held open for a few requests, unless it cannot connect.
            3..6 => {
                let guard = connection.open();
                for _ in 0..rng.usize(..8) {
                    self.ask(0, connection, Place::Caller, rng);
                }
                drop(guard);
            }
            _ => self.ask(0, connection, Place::Caller, rng),
        }
    }
}
