//! Makers of transports, for connections that are opened on demand.

use std::io;

use super::Transport;

/// Makes a new transport each time a connection is opened.
///
/// It is implemented by every closure that returns `io::Result<Transport>`; a type of one's own
/// can carry an address and a way to show it.
///
/// # Examples
///
/// A closure:
///
/// ```
/// use std::net::TcpStream;
/// use packetstream::{Connector, Transport};
///
/// fn connect_with(connector: impl Connector) -> std::io::Result<Transport> {
///     connector.connect()
/// }
///
/// # fn main() -> std::io::Result<()> {
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// let transport = connect_with(move || TcpStream::connect(address)?.try_into())?;
///
/// let error = connect_with(|| Err(std::io::ErrorKind::ConnectionRefused.into())).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
/// # Ok(())
/// # }
/// ```
///
/// A helper program at the far end of `ssh`, started anew each time:
///
/// ```no_run
/// use std::io;
/// use std::process::Command;
/// use packetstream::{Connector, Transport};
///
/// struct RemoteHelper {
///     host: String,
/// }
///
/// impl Connector for RemoteHelper {
///     fn connect(&self) -> io::Result<Transport> {
///         Transport::spawn(Command::new("ssh").arg(&self.host).arg("helper --stdio"))
///     }
/// }
/// ```
#[doc(alias = "recv_send")]
pub trait Connector: Send + Sync + 'static {
    /// Makes a new transport; may block.
    ///
    /// # Errors
    ///
    /// Whatever prevents it, such as a refused connection or a program that is not there.
    fn connect(&self) -> io::Result<Transport>;
}

impl<F> Connector for F
where
    F: Fn() -> io::Result<Transport> + Send + Sync + 'static,
{
    fn connect(&self) -> io::Result<Transport> {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(connector: impl Connector) -> Box<dyn Connector> {
        Box::new(connector)
    }

    #[test]
    fn closures_need_no_annotations() {
        assert!(boxed(|| Ok(Transport::pair().0)).connect().is_ok());
        assert!(
            boxed(|| Ok(Transport::new(io::empty(), io::sink())))
                .connect()
                .is_ok()
        );
        let kind = io::ErrorKind::NotFound;
        assert_eq!(
            boxed(move || Err(kind.into()))
                .connect()
                .unwrap_err()
                .kind(),
            kind
        );
    }

    #[test]
    fn question_mark_works_in_a_closure() {
        let connector = boxed(|| {
            std::fs::File::open("there/is/no/such/file")?;
            Ok(Transport::pair().0)
        });
        assert_eq!(
            connector.connect().unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
