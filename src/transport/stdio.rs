//! The standard input and output of this process.

use std::io;

use super::Transport;

impl Transport {
    /// Makes a transport of the standard input and output of this process.
    ///
    /// This is what a program uses that is started by its peer: by `ssh`, by
    /// [`spawn`](Self::spawn) at the other end, or by a super-server such as `inetd`.
    ///
    /// From then on standard output belongs to the protocol. Whatever else is written to it, by
    /// `println!` or by a child process that inherits it, corrupts the stream; log to standard
    /// error. Nothing else may read standard input, and what [`std::io::stdin`] has already
    /// buffered is not seen.
    ///
    /// On Unix the two descriptors are duplicated, and the duplicates are not inherited by child
    /// processes. The process's own stay open, so the peer reads the end of its input only when the
    /// process exits. If they are sockets there is a shutdown hook; in a pipe or terminal nothing
    /// can free a stuck thread.
    ///
    /// # Errors
    ///
    /// A descriptor cannot be duplicated, or is a socket that has failed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use packetstream::Transport;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let transport = Transport::stdio()?;
    /// eprintln!("ready"); // never println!
    /// # Ok(())
    /// # }
    /// ```
    pub fn stdio() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use std::os::fd::AsFd;
            Self::from_borrowed_fds(io::stdin().as_fd(), io::stdout().as_fd())
        }
        #[cfg(not(unix))]
        {
            // Both lock themselves for each call; the lock guards cannot move to another thread.
            let reader = super::buffer::LazyBufReader::new(io::stdin());
            Ok(Self::new(reader, io::stdout()))
        }
    }
}
