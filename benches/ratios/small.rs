//! Calls of 16 octets that each wait for their answer: one caller, and several on one connection.

use std::io::{self, Read, Write};
use std::thread::Builder;

use packetstream::{BoxError, Connection, Request};

use crate::crew::{Crew, Job};
use crate::ends::{Ends, SMALL, Socket, check, payload, sockets};
use crate::measure::side_by_side;
use crate::options::Options;
use crate::results::{Comparison, Work};

const CALLERS: usize = 8;

/// One caller.
pub(crate) fn one(options: &Options) -> Result<Comparison, BoxError> {
    let calls = options.calls(10_000);
    let socket = reversing_socket()?;
    let ends = Ends::open()?;
    let [floor, ours] = side_by_side(
        options.rounds(),
        calls,
        [&mut || floor_calls(&socket, calls), &mut || {
            lone_calls(&ends.client, calls)
        }],
    )?;
    ends.close()?;
    Ok(Comparison::new(Work::One, floor, ours))
}

/// Eight callers on one connection, beside eight sockets with a caller and a server each.
pub(crate) fn eight(options: &Options) -> Result<Comparison, BoxError> {
    let calls = options.calls(2_500);
    let ends = Ends::open()?;
    let mut jobs: Vec<Job> = Vec::new();
    let mut floor_jobs: Vec<Job> = Vec::new();
    for _ in 0..CALLERS {
        let socket = reversing_socket()?;
        floor_jobs.push(Box::new(move || floor_calls(&socket, calls)));
        let client = Connection::clone(&ends.client);
        jobs.push(Box::new(move || lone_calls(&client, calls)));
    }
    let (floor_crew, crew) = (Crew::start(floor_jobs)?, Crew::start(jobs)?);
    let [floor, ours] = side_by_side(
        options.rounds(),
        CALLERS * calls,
        [&mut || floor_crew.run(), &mut || crew.run()],
    )?;
    ends.close()?;
    Ok(Comparison::new(Work::Eight, floor, ours))
}

/// Makes calls one after the other.
pub(crate) fn lone_calls(client: &Connection, calls: usize) -> Result<(), BoxError> {
    for number in 0..calls {
        let answer = client.call(Request::new(0).with_payload(payload(number)))?;
        check(answer.payload(), number)?;
    }
    Ok(())
}

fn floor_calls(socket: &Socket, calls: usize) -> Result<(), BoxError> {
    (0..calls).try_for_each(|number| floor_call(socket, number))
}

/// One request and its answer over a bare socket.
pub(crate) fn floor_call(mut socket: &Socket, number: usize) -> Result<(), BoxError> {
    let mut octets = [0; SMALL];
    socket.write_all(&payload(number))?;
    socket.read_exact(&mut octets)?;
    check(&octets, number)
}

/// A socket at whose other end a thread reverses what comes, until it is dropped.
pub(crate) fn reversing_socket() -> io::Result<Socket> {
    let (socket, mut there) = sockets()?;
    Builder::new().name("floor".to_owned()).spawn(move || {
        let mut octets = [0; SMALL];
        while there.read_exact(&mut octets).is_ok() {
            octets.reverse();
            if there.write_all(&octets).is_err() {
                break;
            }
        }
    })?;
    Ok(socket)
}
